//! Issuing with a key in an HSM that takes 5 ms for a signature, as one at the end of a network does, beside what its module does by itself.

use std::{
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use touchmark_crypto::Purpose;
use touchmark_custody::{KeyBackend, NewKey, Seal};
use touchmark_helper::TokenKeys;
use touchmark_issuer::Kind;
use touchmark_tests::modules::Module;

use super::{
    pure::{Scene, scene_with},
    table::Table,
};

/// Sessions of the token that sign at the same time.
const SESSIONS: u32 = 4;
/// Callers at the same time: more than sessions, so that none of them idles.
const CALLERS: usize = 16;
/// Each rate is measured so often, in turns, for so many seconds; the median counts.
const TURNS: usize = 5;
const SECONDS: u64 = 2;
const LABEL: &str = "authority";

pub(crate) fn measure(table: &mut Table) {
    let module = Module::simulated(&["hsm-slow"]);
    let token = module.open();
    let keys = TokenKeys(token);
    let wanted = NewKey {
        label: LABEL,
        seal: Seal::None,
    };
    let reference = keys.create(&wanted).unwrap();
    let key = keys.open(&reference, &[Purpose::Certificate]).unwrap();
    let scene = scene_with(key);
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("raw_sign");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/performance/raw_sign.c");
    let compiled = Command::new("cc")
        .args(["-O2", "-w", "-pthread", "-o"])
        .args([program.as_os_str(), source.as_ref()])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(compiled.success(), "raw_sign.c does not compile");
    for _ in 0..TURNS {
        raw.push(by_itself(&module, &program));
        ours.push(issued(&scene));
    }
    let (raw, ours) = (median(raw), median(ours));
    table.heading("issuing with a key in an HSM whose signatures take 5 ms");
    table.figure(
        &format!("C_Sign per second by the module itself, {SESSIONS} sessions"),
        &format!("{raw:.0}"),
    );
    table.figure("X.509 credentials issued per second", &format!("{ours:.0}"));
    table.at_least("B14", "HSM-signed issues / raw C_Sign rate", 0.95, ours / raw);
    // A host certificate and a workload's, each of one hour and renewed in its middle, by half of what the key signs.
    let agents = ours / 2.0 / (2.0 / 1_800.0);
    table.figure(
        "agents that such a key carries (two certificates of 1 h each)",
        &format!("{agents:.0}"),
    );
}

fn by_itself(module: &Module, program: &std::path::Path) -> f64 {
    let token = module.token.split("token=").nth(1).unwrap();
    let output = module
        .command(program.to_str().unwrap())
        .arg(&module.library)
        .args([token, &module.pin(), LABEL])
        .args([SESSIONS.to_string(), SECONDS.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.trim().parse().unwrap()
}

/// Credentials per second that callers get together.
fn issued(scene: &Scene) -> f64 {
    let count = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while start.elapsed() < Duration::from_secs(SECONDS) {
                    let (challenge, proof) = scene.proof();
                    scene.issue(Kind::X509, &challenge, &proof);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    f64::from(u32::try_from(count.into_inner()).unwrap()) / seconds
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
