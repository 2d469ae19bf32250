//! What a run returns, and what it leaves behind: nothing.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Bench, await_that, text};

#[test]
fn the_exit_code_is_the_commands() {
    let bench = Bench::new();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 128 + 15),
        ("kill -KILL $$", 128 + 9),
    ] {
        let output = bench.command(&["--", "sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{script}");
    }
    let code = |program| bench.command(&["--", program]).output().unwrap().status.code();
    assert_eq!(code("/no/such/program"), Some(127));
    assert_eq!(code("/etc/passwd"), Some(126));
    bench.assert_clean();
}

#[test]
fn usage_errors_are_2() {
    let bench = Bench::new();
    for arguments in [
        ["--tpm", "0", "--", "true"].as_slice(),
        &["--tpm", "1"],
        &["--tpm", "x", "--", "true"],
        &[],
    ] {
        assert_eq!(
            bench.command(arguments).output().unwrap().status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    let output = bench.script(&["--tpm", "1", "--count", "no/such/folder/count"], "true");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn a_missing_program_is_3_and_names_its_package() {
    let bench = Bench::new();
    // Not /usr/bin, where swtpm is; the folders of daemons are searched anyway.
    let mut command = bench.command(&["--tpm", "1", "--", "/bin/true"]);
    let output = command.env("PATH", "/no/such/folder").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).contains("apt-get install swtpm"),
        "{}",
        text(&output.stderr)
    );
    bench.assert_clean();
}

#[test]
fn standard_output_and_input_belong_to_the_command() {
    let bench = Bench::new();
    let mut command = bench.command(&["--tpm", "1", "--", "cat"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("through".to_owned(), String::new())
    );
    bench.assert_clean();
}

#[test]
fn without_devices_only_the_folder_is_named() {
    let script = "cat $TOUCHMARK_SIM/sim.json; echo ${TPM2TOOLS_TCTI:-none}";
    let bench = Bench::new();
    let mut command = bench.command(&["--", "sh", "-c", script]);
    let output = command.env_remove("TPM2TOOLS_TCTI").output().unwrap();
    assert_eq!(text(&output.stdout), "{}\nnone\n");
    bench.assert_clean();
}

#[test]
fn tmpdir_may_have_a_strange_name_but_not_a_long_one() {
    let bench = Bench::new();
    let run = |name: &str| {
        let folder = bench.work().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut command = bench.command(&["--tpm", "1", "--", "tpm2_getrandom", "--hex", "4"]);
        let output = command.env("TMPDIR", &folder).output().unwrap();
        assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
        output
    };
    assert_eq!(text(&run("a b,c;d=e%20&<\"é").stdout).len(), 8);
    let output = run(&"x".repeat(100));
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).contains("TMPDIR"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn counting_begins_with_the_command_and_appends() {
    let bench = Bench::new();
    let arguments = ["--tpm", "2", "--count", "count"];
    let read = || std::fs::read_to_string(bench.work().join("count")).unwrap();
    bench.stdout(&arguments, "true");
    assert_eq!(read(), "");
    // The line is there as soon as the tool is done.
    bench.stdout(
        &arguments,
        "tpm2_getrandom --hex 4; grep -q '^1 TPM2_GetRandom 0x000$' count",
    );
    let before = read();
    bench.stdout(&arguments, "fails tpm2_readpublic -c 0x81017777");
    let after = read();
    assert!(after.starts_with(&before) && after.len() > before.len());
    for line in after.lines() {
        let [n, command, code] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert!(
            n == "1" && command.starts_with("TPM2_") && code.starts_with("0x"),
            "{line}"
        );
    }
    assert!(
        after.lines().any(|line| line == "1 TPM2_ReadPublic 0x18b"),
        "{after}"
    );
}

fn send(run: &Child, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

/// A run whose command has started, and has children of its own that do not end by themselves.
fn running(bench: &Bench) -> Child {
    let script = "setsid sleep 1000 & sleep 1000 & touch started; wait";
    let mut command = bench.command(&["--tpm", "2", "--", "sh", "-c", script]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    bench.await_start(&mut child);
    child
}

#[test]
fn sigkill_leaves_no_process_and_no_folder() {
    let bench = Bench::new();
    let mut child = running(&bench);
    send(&child, Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    bench.await_clean();
}

#[test]
fn sigkill_during_the_set_up_leaves_nothing_either() {
    for _ in 0..5 {
        let bench = Bench::new();
        let mut child = bench
            .command(&["--tpm", "4", "--", "sleep", "1000"])
            .spawn()
            .unwrap();
        await_that("the set-up has begun", || !bench.is_empty());
        send(&child, Signal::KILL);
        child.wait().unwrap();
        bench.await_clean();
    }
}

#[test]
fn signals_are_passed_on_and_the_run_ends_with_the_command() {
    for (signal, code) in [(Signal::INT, 128 + 2), (Signal::TERM, 128 + 15)] {
        let bench = Bench::new();
        let mut command = bench.command(&["--tpm", "1", "--", "sh", "-c", "touch started; exec sleep 1000"]);
        let mut child = command.spawn().unwrap();
        bench.await_start(&mut child);
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        bench.assert_clean();
        bench.await_clean();
    }
}

#[test]
fn a_command_that_answers_a_signal_still_has_its_tpm() {
    let bench = Bench::new();
    let script =
        "trap 'tpm2_getrandom --hex 4 > random; exit 5' TERM; touch started; while :; do sleep 0.05; done";
    let mut child = bench
        .command(&["--tpm", "1", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    bench.await_start(&mut child);
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(std::fs::read(bench.work().join("random")).unwrap().len(), 8);
    bench.assert_clean();
}

#[test]
fn what_the_command_leaves_running_ends_with_the_run() {
    let bench = Bench::new();
    bench.stdout(&["--tpm", "1"], "setsid sleep 1000 > /dev/null 2>&1 &");
    bench.await_clean();
}

#[test]
fn runs_may_be_nested_and_run_side_by_side() {
    let bench = Bench::new();
    let start = || {
        let mut command = bench.command(&["--tpm", "2", "--", "tpm2_getrandom", "--hex", "8"]);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    let mut printed: Vec<_> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap().stdout)
        .collect();
    assert!(printed.iter().all(|random| random.len() == 16), "{printed:?}");
    printed.sort_unstable();
    printed.dedup();
    assert_eq!(printed.len(), 4);

    let inner = format!(
        "{} run --tpm 1 -- tpm2_getrandom --hex 4",
        env!("CARGO_BIN_EXE_touchmark-sim")
    );
    assert_eq!(
        bench
            .stdout(&["--tpm", "1"], &format!("{inner}; tpm2_getrandom --hex 4"))
            .len(),
        16
    );
    bench.await_clean();
}
