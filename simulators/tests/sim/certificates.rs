//! Endorsement keys and their certificates, judged by tpm2-tools and OpenSSL.

use crate::support::{Bench, tcti};

/// Shell: reads both certificates out of the TPM, compares them with the files, verifies their chain, and
/// compares their keys with those behind the persistent handles.
fn check(n: usize) -> String {
    format!(
        "export TPM2TOOLS_TCTI={tcti} here=$TOUCHMARK_SIM/tpm{n}
         tpm2_getekcertificate -o rsa.der -o p256.der
         tpm2_nvread 0x01c00100 -o chain.der
         openssl x509 -inform DER -in chain.der -out chain.pem
         openssl x509 -in $here/maker-intermediate.pem -outform DER | cmp - chain.der
         for pair in rsa:0x81010001 p256:0x8101000a; do
             kind=${{pair%:*}} handle=${{pair#*:}}
             openssl x509 -in $here/ek-$kind.pem -outform DER | cmp - $kind.der
             openssl verify -CAfile $TOUCHMARK_SIM/maker-root.pem -untrusted chain.pem -purpose any \\
                 -ignore_critical $here/ek-$kind.pem
             openssl x509 -inform DER -in $kind.der -noout -pubkey | openssl pkey -pubin -outform DER > cert.spki
             tpm2_readpublic -c $handle -f der -o handle.spki > public.txt
             cmp cert.spki handle.spki
             grep -q 'fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt$' public.txt
             grep -q '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa' public.txt
         done",
        tcti = tcti(n)
    )
}

#[test]
fn both_certificates_are_in_the_tpm_chain_to_the_root_and_hold_the_persistent_keys() {
    let bench = Bench::new();
    for n in [1, 2] {
        let printed = bench.stdout(&["--tpm", "2"], &check(n));
        assert_eq!(printed.matches(": OK").count(), 2, "{printed}");
    }
}

#[test]
fn certificates_have_the_shape_of_the_ek_credential_profile() {
    for (kind, usage) in [("rsa", "Key Encipherment"), ("p256", "Key Agreement")] {
        let script = format!("openssl x509 -in $TOUCHMARK_SIM/tpm1/ek-{kind}.pem -noout -text");
        let printed = Bench::new().stdout(&["--tpm", "1"], &script);
        for expected in [
            "Version: 3",
            "Subject: \n",
            "CA:FALSE",
            "2.23.133.8.1",
            "X509v3 Subject Alternative Name: critical",
            "DirName:/2.23.133.2.1=id:544D4B53/2.23.133.2.2=touchmark-sim/2.23.133.2.3=id:00010000",
            "X509v3 Authority Key Identifier",
            "X509v3 Subject Directory Attributes",
            usage,
        ] {
            assert!(printed.contains(expected), "{expected} is missing:\n{printed}");
        }
    }
}

#[test]
fn the_maker_locked_what_it_wrote() {
    let script = "tpm2_nvreadpublic 0x01c00002 > public.txt
        grep -q writelocked public.txt
        grep -q platformcreate public.txt
        fails tpm2_nvundefine -C o 0x01c00002 2>&1";
    Bench::new().stdout(&["--tpm", "1"], script);
}

#[test]
fn the_endorsement_keys_activate_a_credential() {
    let script = "printf 0123456789abcdef > secret
        tpm2_createak -C 0x81010001 -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name > /dev/null
        tpm2_readpublic -c 0x81010001 -o ek.pub > /dev/null
        tpm2_makecredential -T none -u ek.pub -s secret -n $(od -An -v -tx1 ak.name | tr -d ' \\n') -o credential > /dev/null
        tpm2_startauthsession --policy-session -S session
        tpm2_policysecret -S session -c e > /dev/null
        tpm2_activatecredential -c ak.ctx -C 0x81010001 -i credential -o opened -P session:session > /dev/null
        tpm2_flushcontext session
        cmp secret opened";
    Bench::new().stdout(&["--tpm", "1"], script);
}

#[test]
fn a_kept_maker_vouches_for_the_tpms_of_several_runs() {
    let bench = Bench::new();
    let arguments = ["--tpm", "1", "--maker", "maker"];
    let root = "cat $TOUCHMARK_SIM/maker-root.pem";
    let first = bench.stdout(&arguments, root);
    assert_eq!(bench.stdout(&arguments, root), first);
    let printed = bench.stdout(&arguments, &check(1));
    assert_eq!(printed.matches(": OK").count(), 2, "{printed}");
    assert_ne!(bench.stdout(&["--tpm", "1"], root), first);
}
