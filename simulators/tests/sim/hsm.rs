//! Simulated HSMs, with pkcs11-tool as the oracle; and each fault of theirs does what its description says.

use crate::support::{Bench, text};

/// pkcs11-tool on HSM `n`, logged in.
const TOOL: &str = r#"
hsm() { jq -r ".hsms[$1 - 1].$2" "$TOUCHMARK_SIM/sim.json"; }
tool() {
    n=$1; shift
    SOFTHSM2_CONF=$(hsm $n conf) pkcs11-tool --module "$(hsm $n module)" --token-label "$(hsm $n token)" \
        --login --pin "$(cat "$(hsm $n pin_file)")" "$@"
}
pair() { tool "$1" --keypairgen --key-type EC:prime256v1 --label key --id 01; }
sign() { echo message > message; tool "$1" --sign --mechanism ECDSA --id 01 --input-file message --output-file signature; }
"#;

fn script(body: &str) -> String {
    format!("{TOOL}{body}")
}

#[test]
fn each_host_has_a_token_of_its_own_and_the_first_is_in_the_environment() {
    let bench = Bench::new();
    let out = bench.stdout(
        &["--tpm", "2", "--hsm"],
        &script(
            "pair 1; tool 2 --list-objects; \
             test \"$(hsm 1 conf)\" = \"$SOFTHSM2_CONF\"; jq -c '[.tpms, .hsms | length]' \"$TOUCHMARK_SIM/sim.json\"; \
             stat -c %a \"$(hsm 1 pin_file)\"",
        ),
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines.iter().rev().take(2).copied().collect::<Vec<_>>(),
        ["600", "[2,2]"],
        "{out}"
    );
    assert!(out.contains("Private Key Object; EC"), "{out}");
}

#[test]
fn an_hsm_is_there_without_any_tpm() {
    let bench = Bench::new();
    let out = bench.stdout(&["--hsm"], &script("pair 1 && sign 1 && wc -c < signature"));
    assert!(out.trim_end().ends_with("64"), "{out}");
}

#[test]
fn pin_locked_lets_nobody_in_and_token_full_makes_nothing() {
    let bench = Bench::new();
    for (fault, answer) in [
        ("pin-locked", "CKR_PIN_LOCKED"),
        ("token-full", "CKR_DEVICE_MEMORY"),
    ] {
        let output = bench.script(&["--hsm", "--fault", fault], &script("pair 1"));
        assert!(
            !output.status.success() && text(&output.stderr).contains(answer),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn hsm_crash_ends_the_process_that_signs_a_third_time() {
    let bench = Bench::new();
    let body = "pair 1 >/dev/null; sign 1; echo one signature is none too many";
    let output = bench.script(&["--hsm", "--fault", "hsm-crash"], &script(body));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn faults_of_devices_that_are_not_there_are_refused() {
    let bench = Bench::new();
    for (arguments, says) in [
        (&["--tpm", "1", "--fault", "hsm-slow"][..], "no HSM was asked for"),
        (&["--hsm", "--fault", "kernel"], "no TPM was asked for"),
        (&["--hsm", "--fault", "hsm-slow@2"], "there is no HSM 2"),
    ] {
        let output = bench.script(arguments, "true");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}
