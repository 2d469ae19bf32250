//! Each fault does what its description says, and nothing else.

use std::time::{Duration, Instant};

use crate::support::{Bench, Pcrs, differing, measured_and_logged, pcrs, read_pcrs, tcti, text};

fn good(bench: &Bench) -> Pcrs {
    pcrs(&bench.stdout(&["--tpm", "1"], &read_pcrs(1)))
}

#[test]
fn kernel_shows_in_the_registers_and_in_the_log() {
    let bench = Bench::new();
    let (measured, logged, log) = measured_and_logged(&bench, &["--tpm", "1", "--fault", "kernel"], 1);
    assert_eq!(measured, logged);
    assert_eq!(differing(&measured, &good(&bench)), [4, 8, 9]);
    assert!(log.contains("/boot/vmlinuz-6.1.0-31-amd64") && !log.contains("6.1.0-28"));
}

#[test]
fn secure_boot_off_shows_in_register_7_and_in_the_log() {
    let bench = Bench::new();
    let (measured, logged, log) =
        measured_and_logged(&bench, &["--tpm", "1", "--fault", "secure-boot-off"], 1);
    assert_eq!(measured, logged);
    assert_eq!(differing(&measured, &good(&bench)), [7]);
    assert!(
        log.contains("UnicodeName: SecureBoot\n    VariableData: \"00\""),
        "{log}"
    );
}

#[test]
fn pcr_unexplained_leaves_the_log_alone_and_extends_register_4() {
    let bench = Bench::new();
    let (measured, logged, _) = measured_and_logged(&bench, &["--tpm", "1", "--fault", "pcr-unexplained"], 1);
    assert_eq!(logged, good(&bench));
    assert_eq!(differing(&measured, &logged), [4]);
}

#[test]
fn log_edited_shows_the_good_boot_of_a_host_with_another_kernel() {
    let bench = Bench::new();
    let (measured, logged, _) = measured_and_logged(&bench, &["--tpm", "1", "--fault", "log-edited"], 1);
    assert_eq!(logged, good(&bench));
    let kernel = pcrs(&bench.stdout(&["--tpm", "1", "--fault", "kernel"], &read_pcrs(1)));
    assert_eq!(measured, kernel);
}

#[test]
fn ek_unknown_maker_has_a_chain_of_its_own_to_a_root_that_is_not_named() {
    let script = "
        verify() { openssl verify -CAfile $TOUCHMARK_SIM/maker-root.pem -ignore_critical -purpose any \\
            -untrusted $TOUCHMARK_SIM/tpm$1/maker-intermediate.pem $TOUCHMARK_SIM/tpm$1/ek-$2.pem; }
        for kind in rsa p256; do verify 1 $kind; fails verify 2 $kind 2>&1; done
        openssl verify -partial_chain -ignore_critical -purpose any \\
            -CAfile $TOUCHMARK_SIM/tpm2/maker-intermediate.pem $TOUCHMARK_SIM/tpm2/ek-rsa.pem
        export TPM2TOOLS_TCTI=TCTI2
        tpm2_getekcertificate -o rsa.der -o p256.der
        tpm2_nvread 0x01c00100 -o chain.der
        openssl x509 -in $TOUCHMARK_SIM/tpm2/ek-rsa.pem -outform DER | cmp - rsa.der
        openssl x509 -in $TOUCHMARK_SIM/tpm2/maker-intermediate.pem -outform DER | cmp - chain.der";
    let printed = Bench::new().stdout(
        &["--tpm", "2", "--fault", "ek-unknown-maker"],
        &script.replace("TCTI2", &tcti(2)),
    );
    assert_eq!(printed.matches(": OK").count(), 3, "{printed}");
    assert!(printed.contains("unable to get"), "{printed}");
}

#[test]
fn tpm_slow_delays_every_command() {
    let bench = Bench::new();
    let start = Instant::now();
    let arguments = ["--tpm", "1", "--fault", "tpm-slow", "--count", "count"];
    bench.stdout(&arguments, "for i in 1 2 3; do tpm2_getrandom --hex 4; done");
    let commands = std::fs::read_to_string(bench.work().join("count"))
        .unwrap()
        .lines()
        .count();
    assert!(commands >= 3);
    // Each has its delay; how much longer all of it takes is the machine's affair.
    assert!(start.elapsed() >= Duration::from_millis(200) * u32::try_from(commands).unwrap());
}

#[test]
fn tpm_gone_answers_no_command_but_its_neighbour_does() {
    let bench = Bench::new();
    let script = format!(
        "tpm2_getrandom --hex 4
         fails tpm2_getrandom -T {gone} --hex 4
         fails tpm2_pcrread -T {gone}
         test -s $TOUCHMARK_SIM/tpm2/binary_bios_measurements",
        gone = tcti(2)
    );
    let output = bench.script(&["--tpm", "2", "--fault", "tpm-gone@2"], &script);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn tpm_reset_leaves_the_log_but_no_registers_and_counts_one_reset_more() {
    let bench = Bench::new();
    let script = |n| format!("{}tpm2_readclock -T {}", read_pcrs(n), tcti(n));
    let count = |printed: &str| {
        let line = printed.lines().find(|line| line.contains("reset_count")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let arguments = ["--tpm", "2", "--fault", "tpm-reset@2"];
    let (usual, reset) = (
        bench.stdout(&arguments, &script(1)),
        bench.stdout(&arguments, &script(2)),
    );
    assert_eq!(count(&reset), count(&usual) + 1);
    let registers = reset.split("time:").next().unwrap();
    assert!(
        pcrs(registers)
            .values()
            .all(|value| value.trim_start_matches(['0', 'x']).is_empty()),
        "{reset}"
    );
    let (_, logged, _) = measured_and_logged(&bench, &arguments, 2);
    assert_eq!(logged, good(&bench));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_list() {
    let bench = Bench::new();
    for arguments in [
        ["--tpm", "2", "--fault", "colonel"].as_slice(),
        &["--tpm", "2", "--fault", "kernel@3"],
        &["--tpm", "2", "--fault", "kernel@0"],
        &["--tpm", "2", "--fault", "kernel@x"],
        &["--fault", "kernel"],
    ] {
        let output = bench.script(arguments, "echo ran");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let errors = text(&output.stderr);
        assert!(
            errors.contains("secure-boot-off") && errors.contains("tpm-reset"),
            "{errors}"
        );
    }
    let output = bench.script(
        &["--tpm", "1", "--fault", "kernel", "--fault", "log-edited@1"],
        "echo ran",
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot be combined"));
}
