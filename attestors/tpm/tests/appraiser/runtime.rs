//! Lists of what the kernel measures while a host runs: followed over many rounds, refused where they do not lead to the quote.

use touchmark_crypto::HashAlg;
use touchmark_rats::{
    Appraisal, Appraiser, ClaimValue, Expected, KnownFiles, PcrSelection, Reason, RuntimeList, RuntimeState,
    cbor,
};

use crate::forge::{
    BIND, BOOT, Case, Tpm,
    attest::{self, Attest},
    write::SHA256,
};

struct Known(Vec<Vec<u8>>);

impl KnownFiles for Known {
    fn knows(&self, algorithm: &str, digest: &[u8]) -> bool {
        algorithm == "sha256" && self.0.iter().any(|known| known == digest)
    }
}

/// An entry of template ima-ng, as the kernel shows it, and what goes into the register.
#[derive(Clone)]
struct Entry {
    bytes: Vec<u8>,
    extended: Vec<u8>,
}

fn digest(path: &str) -> Vec<u8> {
    HashAlg::Sha256.digest(&[path.as_bytes()])
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

fn entry_of(path: &str, digest: &[u8]) -> Entry {
    let digest = [b"sha256:\0".as_slice(), digest].concat();
    let data = [field(&digest), field(&[path.as_bytes(), &[0]].concat())].concat();
    let template = HashAlg::Sha1.digest(&[&data]);
    Entry {
        bytes: [
            &10_u32.to_le_bytes()[..],
            &template,
            &field(b"ima-ng"),
            &field(&data),
        ]
        .concat(),
        extended: HashAlg::Sha256.digest(&[&data]),
    }
}

fn entry(path: &str) -> Entry {
    entry_of(path, &digest(path))
}

/// A file that was written while it was measured.
fn violation(path: &str) -> Entry {
    let mut entry = entry_of(path, &[0; 32]);
    entry.bytes[4..24].fill(0);
    entry.extended = vec![0xff; 32];
    entry
}

fn register(entries: &[Entry]) -> Vec<u8> {
    entries.iter().fold(vec![0; 32], |value, entry| {
        HashAlg::Sha256.digest(&[&value, &entry.extended])
    })
}

fn bytes(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.bytes.clone()).collect()
}

/// A host whose kernel has measured these files, quoted.
fn running(entries: &[Entry]) -> Case {
    let mut tpm = Tpm::new();
    tpm.registers[10] = register(entries);
    let mut case = Case::of(tpm);
    let registers = [&BOOT[..], &[10]].concat();
    let digest = case.tpm.pcr_digest(case.tpm.ak.hash(), &registers);
    case.quote = Some(Attest::quote(
        &BIND,
        &attest::selection(&[(SHA256, &registers)]),
        &digest,
    ));
    case.selection = PcrSelection::sha256(registers);
    case
}

/// Again, in the same boot: no key is offered, no values come along.
fn again(entries: &[Entry]) -> Case {
    let mut case = running(entries);
    case.keys.clear();
    case.values.clear();
    case
}

fn appraise(case: &Case, state: Option<&RuntimeState>, gained: &[u8], files: &Known) -> Appraisal {
    let keys: Vec<Vec<u8>> = case.keys.iter().map(|offered| offered.area.bytes()).collect();
    touchmark_attestor_tpm::TpmAppraiser::new(Vec::new()).appraise(
        &cbor::encode(&case.evidence()),
        &Expected {
            bind: case.bind,
            attestation_public: &case.tpm.ak_area.bytes(),
            selection: &case.selection,
            keys: &keys,
            sealed_to_boot: true,
            log: &case.log,
            runtime: Some(RuntimeList {
                state: state.map(|state| state.state.as_slice()),
                gained,
                files,
            }),
        },
    )
}

#[track_caller]
fn refused(appraisal: &Appraisal, check: &str, reason: Reason) {
    let failure = appraisal.failure().expect("refused");
    assert_eq!(
        (failure.name, failure.reason()),
        (check, Some(reason)),
        "{failure:?}"
    );
    assert_eq!(appraisal.runtime, None);
}

fn count(appraisal: &Appraisal, name: &str) -> i64 {
    assert_eq!(appraisal.failure(), None);
    match appraisal.claims.get(name) {
        Some(ClaimValue::Int(count)) => *count,
        other => panic!("{name}: {other:?}"),
    }
}

fn aggregate() -> Entry {
    let tpm = Tpm::new();
    entry_of("boot_aggregate", &tpm.pcr_digest(SHA256, &BOOT))
}

#[test]
fn a_list_is_followed_from_round_to_round_and_unknown_files_are_counted_until_they_are_known() {
    let mut entries = vec![aggregate(), entry("/usr/bin/one"), entry("/tmp/odd")];
    let mut files = Known(vec![digest("/usr/bin/one"), digest("/usr/bin/two")]);
    let first = appraise(&running(&entries), None, &bytes(&entries), &files);
    assert_eq!(
        (count(&first, "ima.entries"), count(&first, "ima.unknown")),
        (3, 1)
    );
    assert_eq!(
        first.claims.get("ima.boot_aggregate"),
        Some(&ClaimValue::Text("matches".into()))
    );
    let named = ClaimValue::Texts(vec![format!(
        "/tmp/odd sha256:{}",
        hex::encode(digest("/tmp/odd"))
    )]);
    assert_eq!(first.claims.get("ima.unknown_files"), Some(&named));
    let mut state = first.runtime.unwrap();
    assert_eq!(state.offset, u64::try_from(bytes(&entries).len()).unwrap());
    for round in 0..5 {
        let gained = [entry("/usr/bin/two"), violation(&format!("/var/log/{round}"))];
        entries.extend(gained.clone());
        let next = appraise(&again(&entries), Some(&state), &bytes(&gained), &files);
        assert_eq!(count(&next, "ima.entries"), 5 + 2 * round);
        assert_eq!(
            (count(&next, "ima.unknown"), count(&next, "ima.violations")),
            (1, 1 + round)
        );
        state = next.runtime.unwrap();
    }
    // Nothing new, and a list that has the odd file by now.
    files.0.push(digest("/tmp/odd"));
    let last = appraise(&again(&entries), Some(&state), &[], &files);
    assert_eq!(count(&last, "ima.unknown"), 0);
    assert!(state.complete);
}

#[test]
fn what_came_after_the_quote_is_left_for_the_next_round_even_if_only_a_part_of_it_was_read() {
    let quoted = vec![aggregate(), entry("/usr/bin/one")];
    let later = entry("/usr/bin/late");
    let files = Known(Vec::new());
    for cut in [later.bytes.len(), later.bytes.len() - 1, 30, 3] {
        let read = [bytes(&quoted), later.bytes[..cut].to_vec()].concat();
        let appraisal = appraise(&running(&quoted), None, &read, &files);
        assert_eq!(count(&appraisal, "ima.entries"), 2, "{cut}");
        let offset = appraisal.runtime.unwrap().offset;
        assert_eq!(offset, u64::try_from(bytes(&quoted).len()).unwrap());
    }
}

#[test]
fn p05_a_list_that_starts_elsewhere_or_is_cut_is_refused_and_leaves_no_state() {
    let entries = vec![
        aggregate(),
        entry("/usr/bin/one"),
        entry("/usr/bin/two"),
        entry("/usr/bin/three"),
    ];
    let files = Known(Vec::new());
    let first = appraise(&running(&entries[..2]), None, &bytes(&entries[..2]), &files);
    let state = first.runtime.unwrap();
    let now = again(&entries);
    let good = appraise(&now, Some(&state), &bytes(&entries[2..]), &files);
    assert_eq!(count(&good, "ima.entries"), 4);
    for (what, gained) in [
        ("the whole list again", bytes(&entries)),
        ("from one entry too late", bytes(&entries[3..])),
        ("from one entry too early", bytes(&entries[1..])),
        ("without its tail", bytes(&entries[2..3])),
        ("nothing", Vec::new()),
        (
            "in another order",
            [bytes(&entries[3..]), bytes(&entries[2..3])].concat(),
        ),
    ] {
        let appraisal = appraise(&now, Some(&state), &gained, &files);
        // No values came along: it can be the boot log as well.
        refused(&appraisal, "tpm.log", Reason::LogMismatch);
        assert!(
            appraisal
                .failure()
                .unwrap()
                .found
                .contains("list of measurements"),
            "{what}"
        );
    }
    // From the middle of an entry: nothing that is a list.
    let inside = bytes(&entries[2..])[7..].to_vec();
    let appraisal = appraise(&now, Some(&state), &inside, &files);
    assert!(appraisal.failure().is_some(), "{appraisal:?}");
    assert_eq!(appraisal.runtime, None);
    // Without the state it has to be whole.
    refused(
        &appraise(&now, None, &bytes(&entries[2..]), &files),
        "tpm.log",
        Reason::LogMismatch,
    );
    assert_eq!(
        count(&appraise(&now, None, &bytes(&entries), &files), "ima.entries"),
        4
    );
}

#[test]
fn a_hidden_an_edited_and_a_foreign_list_are_refused() {
    let entries = vec![aggregate(), entry("/usr/bin/one"), entry("/tmp/miner")];
    let files = Known(Vec::new());
    let case = running(&entries);
    refused(
        &appraise(&case, None, &bytes(&entries[..2]), &files),
        "ima.replay",
        Reason::LogMismatch,
    );
    // Another name under the same digests: the template's digest is what was extended.
    let mut renamed = entries.clone();
    let at = renamed[2].bytes.len() - 2;
    renamed[2].bytes[at] = b'X';
    refused(
        &appraise(&case, None, &bytes(&renamed), &files),
        "ima.replay",
        Reason::LogMismatch,
    );
    // The digest that the list shows is another than that of its data: the register knows the data.
    let mut shown = entries;
    shown[1].bytes[5] ^= 1;
    refused(
        &appraise(&case, None, &bytes(&shown), &files),
        "ima.template_digest",
        Reason::EventDataMismatch,
    );
    // A list of another boot, replayed into this one.
    let foreign = vec![entry_of("boot_aggregate", &[7; 32]), entry("/usr/bin/one")];
    refused(
        &appraise(&running(&foreign), None, &bytes(&foreign), &files),
        "ima.boot_aggregate",
        Reason::LogMismatch,
    );
}

#[test]
fn a_kernel_that_measures_nothing_has_an_empty_list_and_a_register_of_zeros() {
    let files = Known(Vec::new());
    let appraisal = appraise(&running(&[]), None, &[], &files);
    assert_eq!(count(&appraisal, "ima.entries"), 0);
    let one = [entry("/usr/bin/one")];
    refused(
        &appraise(&running(&one), None, &[], &files),
        "ima.replay",
        Reason::LogMismatch,
    );
}

#[test]
fn every_flipped_bit_of_a_list_is_refused() {
    let entries = vec![aggregate(), entry("/usr/bin/one")];
    let files = Known(Vec::new());
    let case = running(&entries);
    let whole = bytes(&entries);
    let evidence = cbor::encode(&case.evidence());
    assert!(!evidence.is_empty());
    for bit in 0..whole.len() * 8 {
        let mut list = whole.clone();
        list[bit / 8] ^= 1 << (bit % 8);
        let appraisal = appraise(&case, None, &list, &files);
        let reason = appraisal
            .failure()
            .unwrap_or_else(|| panic!("bit {bit} was not noticed"))
            .reason();
        assert!(
            matches!(
                reason,
                Some(
                    Reason::LogMismatch
                        | Reason::EventDataMismatch
                        | Reason::Malformed
                        | Reason::PcrIndexInvalid
                        | Reason::AlgNotAllowed
                        | Reason::Oversized
                )
            ),
            "bit {bit}: {reason:?}"
        );
    }
    for length in 0..whole.len() {
        assert!(
            appraise(&case, None, &whole[..length], &files)
                .failure()
                .is_some(),
            "{length}"
        );
    }
}
