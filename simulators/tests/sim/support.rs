//! Running `touchmark-sim` in a TMPDIR of its own, which has to be empty again afterwards.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Generous: only a hang makes it pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Shell: `fails CMD` holds when CMD does not (the shell's `!` would not stop a script).
const PRELUDE: &str = "fails() { if \"$@\"; then echo \"this succeeded: $*\" >&2; exit 1; fi; }\n";

/// A place for one test's runs and files.
pub(crate) struct Bench {
    tmp: TempDir,
    work: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            tmp: tempfile::tempdir().unwrap(),
            work: tempfile::tempdir().unwrap(),
        }
    }

    /// Where the test's scripts run and leave their files.
    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    /// `touchmark-sim run` with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_touchmark-sim"));
        command
            .arg("run")
            .args(arguments)
            .env("TMPDIR", self.tmp.path())
            .current_dir(self.work());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a shell script, which stops at the first error, with these devices.
    pub(crate) fn script(&self, arguments: &[&str], script: &str) -> Output {
        let mut command = self.command(arguments);
        command.args([
            "--",
            "timeout",
            "--kill-after=5",
            "100",
            "sh",
            "-euc",
            &[PRELUDE, script].concat(),
        ]);
        let output = command.output().unwrap();
        self.assert_clean();
        output
    }

    /// The standard output of a script that has to succeed.
    pub(crate) fn stdout(&self, arguments: &[&str], script: &str) -> String {
        let output = self.script(arguments, script);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{:?}\n{out}\n{err}", output.status);
        out
    }

    /// Waits until the run's command has made the file `started`.
    pub(crate) fn await_start(&self, run: &mut Child) {
        let mut ended = None;
        await_that("the command has started", || {
            ended = run.try_wait().unwrap();
            ended.is_some() || self.work().join("started").exists()
        });
        assert_eq!(ended, None, "the run ended before its command started");
    }

    /// Whether no run has begun here.
    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(self.tmp.path()).unwrap().next().is_none()
    }

    /// Lets other users pass through TMPDIR, as they do through /tmp.
    pub(crate) fn open_to_others(&self) {
        std::fs::set_permissions(self.tmp.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    }

    /// Nothing of a run is left in TMPDIR.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> = std::fs::read_dir(self.tmp.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Nothing of a run is left in TMPDIR, nor a process that names it, before the deadline.
    pub(crate) fn await_clean(&self) {
        let tmp = self.tmp.path().to_str().unwrap();
        await_that("the run is gone", || {
            self.is_empty() && processes_that_name(tmp).is_empty()
        });
    }
}

/// Polls until `condition` holds.
pub(crate) fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Living processes with `text` in their arguments or environment; a zombie has neither.
pub(crate) fn processes_that_name(text: &str) -> Vec<u32> {
    let mentions = |path: &Path| {
        std::fs::read(path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(pid, _)| *pid != std::process::id())
        .filter(|(_, path)| mentions(&path.join("cmdline")) || mentions(&path.join("environ")))
        .map(|(pid, _)| pid)
        .collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bank and register to value, in lower case, as tpm2_pcrread and tpm2_eventlog print them.
pub(crate) type Pcrs = BTreeMap<(String, u32), String>;

/// Reads what `tpm2_pcrread` prints, or what `tpm2_eventlog` prints after `pcrs:`.
pub(crate) fn pcrs(printed: &str) -> Pcrs {
    let mut bank = String::new();
    let mut values = Pcrs::new();
    let printed = printed.rsplit_once("pcrs:\n").map_or(printed, |(_, pcrs)| pcrs);
    for line in printed.lines() {
        match line
            .split_once(':')
            .map(|(left, right)| (left.trim(), right.trim()))
        {
            Some((name, "")) => bank = name.to_owned(),
            Some((number, value)) => {
                values.insert((bank.clone(), number.parse().unwrap()), value.to_lowercase());
            }
            None => {}
        }
    }
    values
}

/// Shell: prints registers of device `n` that a boot touches.
pub(crate) fn read_pcrs(n: usize) -> String {
    format!(
        "tpm2_pcrread -T {} sha256:0,1,2,3,4,5,6,7,8,9,14+sha384:0,1,2,3,4,5,6,7,8,9,14\n",
        tcti(n)
    )
}

/// Shell: replays the log of device `n`.
pub(crate) fn replay_log(n: usize) -> String {
    format!("tpm2_eventlog $TOUCHMARK_SIM/tpm{n}/binary_bios_measurements\n")
}

/// How device `n` is reached.
pub(crate) fn tcti(n: usize) -> String {
    format!("tabrmd:bus_name=com.intel.tss2.Tabrmd{n},bus_type=session")
}

/// The registers of the TPM, and those that the log explains, of device `n` of a run with `arguments`.
pub(crate) fn measured_and_logged(bench: &Bench, arguments: &[&str], n: usize) -> (Pcrs, Pcrs, String) {
    let measured = bench.stdout(arguments, &read_pcrs(n));
    let logged = bench.stdout(arguments, &replay_log(n));
    (pcrs(&measured), pcrs(&logged), logged)
}

/// The numbers of registers whose values differ in either bank.
pub(crate) fn differing(one: &Pcrs, other: &Pcrs) -> Vec<u32> {
    assert!(one.keys().eq(other.keys()), "not the same registers");
    let mut numbers: Vec<u32> = one
        .keys()
        .filter(|key| one[*key] != other[*key])
        .map(|key| key.1)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
