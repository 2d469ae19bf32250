//! Several programs, several TPMs and several users at once.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Bench, tcti, text};

/// Shell: makes a key in device 1 with OpenSSL's tpm2 provider and signs with it until `rounds` are done.
const OPENSSL: &str = "
    openssl genpkey -provider tpm2 -provider default -algorithm EC -pkeyopt group:P-256 -out key.pem
    openssl pkey -provider tpm2 -provider default -in key.pem -pubout -out public.pem
    for i in $(seq 10); do
        openssl pkeyutl -provider tpm2 -provider default -propquery '?provider=tpm2,tpm2.digest!=yes' \\
            -sign -inkey key.pem -rawin -digest sha256 -in data -out signature
        openssl pkeyutl -verify -pubin -inkey public.pem -rawin -digest sha256 -in data -sigfile signature
    done";

#[test]
fn tools_and_openssl_use_one_tpm_at_the_same_time() {
    let script = format!(
        "echo text > data
         tools() {{
             tpm2_createprimary -C o -c $1.primary > /dev/null
             tpm2_create -C $1.primary -u $1.pub -r $1.priv > /dev/null
             for i in 1 2 3 4 5; do
                 tpm2_load -C $1.primary -u $1.pub -r $1.priv -c $1.key > /dev/null
                 tpm2_pcrread sha256:0 > /dev/null
             done
             echo $1 done
         }}
         tools one & one=$!
         tools two & two=$!
         tools three & three=$!
         ({OPENSSL}) & four=$!
         wait $one && wait $two && wait $three && wait $four"
    );
    let printed = Bench::new().stdout(&["--tpm", "1"], &script);
    for name in ["one", "two", "three"] {
        assert!(printed.contains(&format!("{name} done")), "{printed}");
    }
    assert_eq!(
        printed.matches("Signature Verified Successfully").count(),
        10,
        "{printed}"
    );
}

#[test]
fn every_tpm_is_reached_by_the_tcti_that_sim_json_names() {
    let script = "cat $TOUCHMARK_SIM/sim.json; test $TPM2TOOLS_TCTI = $TPM2OPENSSL_TCTI
        test $TPM2TOOLS_TCTI = $TSS2_TCTI; test $TPM2TOOLS_TCTI = $TPM2_PKCS11_TCTI; test $TPM2TOOLS_TCTI = TCTI1";
    let bench = Bench::new();
    let printed = bench.stdout(&["--tpm", "3"], &script.replace("TCTI1", &tcti(1)));
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(document["bus"].as_str().unwrap().starts_with("unix:"));
    assert!(document.get("hsms").is_none() && document.get("snp").is_none());
    let tpms = document["tpms"].as_array().unwrap();
    assert_eq!(tpms.len(), 3);
    for (n, tpm) in (1..).zip(tpms) {
        assert_eq!(tpm["n"], n);
        assert_eq!(tpm["tcti"], tcti(n));
        assert!(tpm["port"].is_u64() && tpm["pid"].is_u64());
        for key in ["eventlog", "maker_root"] {
            assert!(tpm[key].as_str().unwrap().starts_with('/'));
        }
        assert_eq!(tpm["ek_certs"].as_array().unwrap().len(), 2);
        assert_eq!(tpm["maker_intermediates"].as_array().unwrap().len(), 1);
    }
    let everywhere = (1..4).map(|n| format!("tpm2_getrandom -T {} --hex 4\n", tcti(n)));
    bench.stdout(&["--tpm", "3"], &everywhere.collect::<String>());
}

#[test]
fn the_files_that_sim_json_names_are_there_and_swtpm_is_the_process_behind_its_port() {
    let script = "
        grep -o '/[^\"]*' $TOUCHMARK_SIM/sim.json | grep -v '/bus$' | while read file; do test -s $file; done
        pid=$(grep -o '\"pid\": [0-9]*' $TOUCHMARK_SIM/sim.json | grep -o '[0-9]*')
        port=$(grep -o '\"port\": [0-9]*' $TOUCHMARK_SIM/sim.json | grep -o '[0-9]*')
        test $(cat /proc/$pid/comm) = swtpm
        swtpm_ioctl --tcp 127.0.0.1:$((port + 1)) -i
        tpm2_startup -c
        tpm2_readclock | grep -q 'reset_count: 3'";
    Bench::new().stdout(&["--tpm", "1"], script);
}

#[test]
fn a_host_that_reboots_has_empty_registers_and_its_keys() {
    let script = "
        port=$(grep -o '\"port\": [0-9]*' $TOUCHMARK_SIM/sim.json | grep -o '[0-9]*')
        tpm2_shutdown -c; swtpm_ioctl --tcp 127.0.0.1:$((port + 1)) -i; tpm2_startup -c
        tpm2_pcrread sha256:4 | grep -q ': 0x0*$'
        tpm2_readpublic -c 0x8101000a > /dev/null";
    Bench::new().stdout(&["--tpm", "1"], script);
}

#[test]
fn another_user_may_use_the_tpm_but_not_read_its_state() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let bench = Bench::new();
    bench.open_to_others();
    let script = "
        nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"; }
        nobody tpm2_getrandom --hex 4
        nobody cat $TOUCHMARK_SIM/sim.json $TOUCHMARK_SIM/tpm1/binary_bios_measurements > /dev/null
        fails nobody ls $TOUCHMARK_SIM/tpm1/state
        fails nobody ls $TOUCHMARK_SIM";
    let output = bench.script(&["--tpm", "1"], script);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn secrets_are_for_their_owner_only() {
    let bench = Bench::new();
    let script =
        "stat -c %a $TOUCHMARK_SIM $TOUCHMARK_SIM/tpm1/state $TOUCHMARK_SIM/tpm1/state/tpm2-00.permall";
    assert_eq!(
        bench.stdout(&["--tpm", "1", "--maker", "maker"], script),
        "711\n700\n600\n"
    );
    for entry in std::fs::read_dir(bench.work().join("maker")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
}
