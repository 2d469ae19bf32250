//! The measured boot, judged by tpm2-tools.

use crate::support::{Bench, differing, measured_and_logged, pcrs, read_pcrs};

#[test]
fn the_log_explains_the_registers_in_both_banks() {
    let (measured, logged, _) = measured_and_logged(&Bench::new(), &["--tpm", "1"], 1);
    assert_eq!(measured.len(), 2 * 11);
    assert_eq!(measured, logged);
    assert!(
        measured
            .values()
            .all(|value| !value.trim_start_matches(['0', 'x']).is_empty()),
        "{measured:?}"
    );
}

#[test]
fn the_log_tells_a_realistic_story() {
    let (_, _, log) = measured_and_logged(&Bench::new(), &["--tpm", "1"], 1);
    for expected in [
        "Signature: Spec ID Event03",
        "EventType: EV_S_CRTM_VERSION",
        "EventType: EV_EFI_PLATFORM_FIRMWARE_BLOB2",
        "UnicodeName: SecureBoot",
        "UnicodeName: dbx",
        "EventType: EV_EFI_VARIABLE_BOOT2",
        "Calling EFI Application from Boot Option",
        "EventType: EV_EFI_GPT_EVENT",
        "EventType: EV_EFI_VARIABLE_AUTHORITY",
        "EventType: EV_EFI_BOOT_SERVICES_APPLICATION",
        "kernel_cmdline: /boot/vmlinuz-6.1.0-28-amd64 root=UUID=",
        "/boot/initrd.img-6.1.0-28-amd64",
        "Exit Boot Services Returned with Success",
    ] {
        assert!(log.contains(expected), "{expected} is missing:\n{log}");
    }
    for path in [
        r"\EFI\debian\shimx64.efi",
        r"\EFI\debian\grubx64.efi",
        "/boot/vmlinuz-6.1.0-28-amd64",
    ] {
        let utf16: String = path
            .encode_utf16()
            .map(|unit| format!("{:04x}", unit.swap_bytes()))
            .collect();
        assert!(log.contains(&utf16), "no device path has {path}");
    }
}

#[test]
fn only_the_two_banks_of_the_log_are_active() {
    let printed = Bench::new().stdout(&["--tpm", "1"], "tpm2_getcap pcrs");
    let banks: Vec<_> = printed.lines().filter(|line| line.contains("[ 0, 1")).collect();
    assert_eq!(banks.len(), 2, "{printed}");
    assert!(
        banks[0].contains("sha256") && banks[1].contains("sha384"),
        "{printed}"
    );
}

#[test]
fn hosts_without_a_fault_share_one_boot_but_not_their_keys() {
    let bench = Bench::new();
    let script = format!(
        "cmp $TOUCHMARK_SIM/tpm1/binary_bios_measurements $TOUCHMARK_SIM/tpm2/binary_bios_measurements
         for kind in rsa p256; do
             fails cmp -s $TOUCHMARK_SIM/tpm1/ek-$kind.pem $TOUCHMARK_SIM/tpm2/ek-$kind.pem
             for n in 1 2; do openssl x509 -in $TOUCHMARK_SIM/tpm$n/ek-$kind.pem -noout -pubkey > $n; done
             fails cmp -s 1 2
         done
         {}",
        read_pcrs(1)
    );
    let first = pcrs(&bench.stdout(&["--tpm", "2"], &script));
    let second = pcrs(&bench.stdout(&["--tpm", "2"], &read_pcrs(2)));
    assert!(differing(&first, &second).is_empty());
}
