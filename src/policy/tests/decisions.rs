//! Decisions: each shipped policy in both directions, and what happens where something is wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly"
)]

use touchmark_policy::{DEFAULT, Decision, Effect, Policies, PolicyError, Source, Subject, shipped};
use touchmark_rats::{ClaimValue, Claims};

const UEFI_CA: &str = "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507";

fn source(label: &str, text: &str) -> Source {
    Source {
        label: label.to_owned(),
        text: text.to_owned(),
        observe: Vec::new(),
    }
}

/// What is established of a good host.
fn good() -> Claims {
    let mut claims = Claims::default();
    let texts = |values: &[&str]| ClaimValue::Texts(values.iter().map(|value| (*value).to_owned()).collect());
    claims.set("device.vouched", ClaimValue::Bool(true));
    claims.set("device.maker", ClaimValue::Text("infineon".into()));
    claims.set("device.kind", ClaimValue::Text("physical".into()));
    claims.set("device.simulated", ClaimValue::Bool(false));
    claims.set("device.manufacturer", ClaimValue::Text("IFX".into()));
    claims.set("device.serial", ClaimValue::Text("54e1c0b8".into()));
    claims.set("device.issuers", texts(&[MAKERS_CA, "00"]));
    claims.set("device.endorsement_key", ClaimValue::Text("11".into()));
    claims.set("references.matched", texts(&["release-2026-11"]));
    claims.set("tpm.reset_count", ClaimValue::Int(7));
    claims.set("boot.secure_boot", ClaimValue::Text("on".into()));
    for name in [
        "boot.pk",
        "boot.kek",
        "boot.dbx",
        "boot.authorities",
        "boot.applications",
        "boot.db_digests",
        "boot.files",
        "boot.sections",
        "boot.authority_digests",
        "boot.commands",
    ] {
        claims.set(name, texts(&[]));
    }
    claims.set("boot.db", texts(&[UEFI_CA]));
    claims.set("boot.databases_measured", ClaimValue::Bool(true));
    claims.set("boot.db_others", ClaimValue::Int(0));
    claims.set("boot.unread_events", ClaimValue::Int(0));
    claims.set("boot.command_lines", texts(&["root=/dev/sda1"]));
    claims.set("boot.left_firmware", ClaimValue::Bool(true));
    claims.set("boot.unknown_events", ClaimValue::Int(0));
    claims.set("boot.notes", texts(&[]));
    for (name, count) in [
        ("ima.entries", 24),
        ("ima.violations", 0),
        ("ima.unknown", 0),
        ("ima.unsigned", 23),
    ] {
        claims.set(name, ClaimValue::Int(count));
    }
    claims.set("ima.unknown_files", texts(&[]));
    claims.set("ima.boot_aggregate", ClaimValue::Text("matches".into()));
    claims
}

fn with(name: &'static str, value: ClaimValue) -> Claims {
    let mut claims = good();
    claims.set(name, value);
    claims
}

fn decide(texts: &[&str], claims: &Claims) -> Decision {
    decide_for(texts, &[], claims)
}

fn decide_for(texts: &[&str], labels: &[&str], claims: &Claims) -> Decision {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| source(&format!("set-{at}"), text))
        .collect();
    let policies = Policies::compile(&sources).unwrap_or_else(|error| panic!("{error}"));
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let subject = Subject {
        name: "node-1",
        labels: &labels,
        platform: "tpm",
    };
    policies.decide(&subject, claims)
}

/// The authority that the shipped policy of revocations names.
const MAKERS_CA: &str = "3f2b0e6c5d4a19788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const PERMIT: &str = "permit (principal, action, resource);";

fn named(name: &str) -> &'static str {
    let found = shipped().iter().find(|shipped| shipped.name == name);
    found.unwrap_or_else(|| panic!("{name}")).text
}

#[test]
fn every_shipped_policy_permits_a_good_host_and_stops_a_bad_one() {
    let texts = |values: &[&str]| ClaimValue::Texts(values.iter().map(|value| (*value).to_owned()).collect());
    let text = |value: &str| ClaimValue::Text(value.to_owned());
    let bad: &[(&str, Vec<Claims>)] = &[
        ("reference-values", vec![with("references.matched", texts(&[]))]),
        (
            "secure-boot-known-keys",
            vec![
                with("boot.secure_boot", text("off")),
                with("boot.secure_boot", text("unknown")),
                with("boot.secure_boot", text("invalid")),
                with("boot.db", texts(&[UEFI_CA, "00"])),
                with("boot.db_digests", texts(&["00"])),
                with("boot.db_others", ClaimValue::Int(1)),
                with("boot.databases_measured", ClaimValue::Bool(false)),
                with("boot.unread_events", ClaimValue::Int(1)),
            ],
        ),
        (
            "exact-release",
            vec![
                with("references.matched", texts(&["release-2026-09"])),
                with("references.matched", texts(&[])),
            ],
        ),
        (
            "physical-tpm-only",
            vec![
                with("device.vouched", ClaimValue::Bool(false)),
                with("device.simulated", ClaimValue::Bool(true)),
                with("device.kind", text("hypervisor")),
            ],
        ),
        (
            "ima-known-packages",
            vec![
                with("ima.unknown", ClaimValue::Int(1)),
                with("ima.entries", ClaimValue::Int(0)),
                with("ima.violations", ClaimValue::Int(1)),
            ],
        ),
        (
            "firmware-denied",
            vec![
                {
                    let mut leaky = with("device.manufacturer", text("STM"));
                    leaky.set("tpm.firmware_version", text("0x0049000400000000"));
                    leaky
                },
                {
                    let mut silent = Claims::default();
                    let told = good();
                    let others = told.iter().filter(|(name, _)| *name != "tpm.firmware_version");
                    others.for_each(|(name, value)| silent.set(name.to_owned(), value.clone()));
                    silent.set("device.manufacturer", text("STM"));
                    silent
                },
            ],
        ),
        (
            "endorsements-revoked",
            vec![
                with("device.serial", text("54e1c0b7")),
                with(
                    "device.issuers",
                    texts(&["a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90"]),
                ),
            ],
        ),
        (
            "known-events-only",
            vec![with("boot.unknown_events", ClaimValue::Int(1))],
        ),
    ];
    assert_eq!(bad.len(), shipped().len());
    for (name, claims) in bad {
        let policy = named(name);
        // A policy that only forbids stands beside one that permits.
        let sets: Vec<&str> = if policy.contains("permit (") {
            vec![policy]
        } else {
            vec![policy, PERMIT]
        };
        assert!(decide(&sets, &good()).allowed, "{name}");
        for claims in claims {
            assert!(!decide(&sets, claims).allowed, "{name}");
        }
    }
}

#[test]
fn what_no_policy_permits_is_denied() {
    let decision = decide(&[], &good());
    assert!(!decision.allowed);
    assert!(
        decision.explain().starts_with("no policy permits it"),
        "{}",
        decision.explain()
    );
    let unknown = decide(
        &[DEFAULT],
        &with("references.matched", ClaimValue::Texts(Vec::new())),
    );
    assert_eq!(
        unknown.explain(),
        "no policy permits it\nset-0/reference-values permits: the whole boot matches a set of reference values \
         (references.matched = []), on other claims than these"
    );
    assert!(decide(&[DEFAULT], &good()).allowed);
}

#[test]
fn a_forbid_that_tests_a_claim_that_is_not_there_is_refused_at_upload() {
    // Without a schema it would be skipped, and the answer would be: allow.
    let text = "permit (principal, action, resource); \
                forbid (principal, action, resource) when { context.ima.unknown > 0 };";
    let error = Policies::compile(&[source("broken", text)]).unwrap_err();
    assert!(matches!(error, PolicyError::Validation { .. }), "{error}");
}

#[test]
fn a09_a_policy_that_does_not_parse_or_validate_is_refused_whole() {
    for (text, expected) in [
        ("permit (principal, action, resource)", "unexpected end"),
        (
            "permit (principal, action, resource) when { context.boot };",
            "boot",
        ),
        (
            "permit (principal, action, resource) when { context.device.vouched == \"yes\" };",
            "policy 1: ",
        ),
        (
            "permit (principal, action, resource) when { context.nothing };",
            "nothing",
        ),
        (
            "permit (principal == Touchmark::Guest::\"a\", action, resource);",
            "Guest",
        ),
        ("permit (principal == ?principal, action, resource);", "template"),
        ("// Nothing.", "no policy in it"),
        // Cedar takes these for policies that never apply.
        (
            "forbid (principal, action, resource) when { context has imaa && context.imaa.unknown > 0 };",
            "",
        ),
        (
            "forbid (principal, action, resource) when { context has boot && context.boot has secure_bot };",
            "",
        ),
        (
            "permit (principal, action, resource) when { context.device.vouched || context has imaa };",
            "there is no claim imaa; is ima meant?",
        ),
    ] {
        let error = Policies::compile(&[source("good", DEFAULT), source("broken", text)]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("broken: ") && text.contains(expected), "{text}");
    }
    assert_eq!(
        Policies::compile(&[source("a b", DEFAULT)]).unwrap_err(),
        PolicyError::Label("a b".into())
    );
    assert!(Policies::compile(&[source("a", DEFAULT), source("a", DEFAULT)]).is_err());
}

#[test]
fn a09_an_error_of_evaluation_denies() {
    let overflowing = "@id(\"sum\") forbid (principal, action, resource) when { \
                       context has tpm && context.tpm has reset_count && \
                       context.tpm.reset_count + 9223372036854775807 < 0 };";
    let decision = decide(&[PERMIT, overflowing], &good());
    assert!(!decision.allowed);
    assert_eq!(decision.errors.len(), 1);
    assert!(
        decision.explain().contains("evaluation failed"),
        "{}",
        decision.explain()
    );
}

#[test]
fn a_claim_that_the_schema_does_not_know_denies() {
    assert!(!decide(&[PERMIT], &with("boot.weather", ClaimValue::Int(1))).allowed);
    assert!(!decide(&[PERMIT], &with("boot.secure_boot", ClaimValue::Int(1))).allowed);
    assert!(!decide(&[PERMIT], &Claims::default()).allowed);
}

#[test]
fn a_decision_names_the_policy_and_the_claims_that_it_tests() {
    let decision = decide(
        &[named("secure-boot-known-keys")],
        &with("boot.secure_boot", ClaimValue::Text("off".into())),
    );
    let forbids: Vec<&str> = decision.determining.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(forbids, ["secure-boot"]);
    assert_eq!(decision.determining[0].effect, Effect::Forbid);
    assert_eq!(
        decision.determining[0].claims,
        [("boot.secure_boot".to_owned(), "off".to_owned())]
    );
    assert!(
        decision.determining[0]
            .remedy
            .as_ref()
            .unwrap()
            .contains("Secure Boot")
    );
    let explained = decision.explain();
    assert!(
        explained.contains("set-0/secure-boot forbids: Secure Boot has to be on"),
        "{explained}"
    );
}

#[test]
fn policies_for_groups_and_hosts_touch_no_others() {
    let text = "permit (principal in Touchmark::HostGroup::\"rack-7\", action, resource); \
                forbid (principal == Touchmark::Host::\"node-1\", action, resource) \
                when { context has tpm && context.tpm has reset_count && context.tpm.reset_count > 100 };";
    assert!(decide_for(&[text], &["rack-7", "web"], &good()).allowed);
    assert!(!decide_for(&[text], &["rack-8"], &good()).allowed);
    assert!(!decide_for(&[text], &[], &good()).allowed);
    assert!(
        !decide_for(
            &[text],
            &["rack-7"],
            &with("tpm.reset_count", ClaimValue::Int(101))
        )
        .allowed
    );
}

#[test]
fn a_set_that_only_observes_denies_nobody_and_says_what_it_would_have_done() {
    let strict = "forbid (principal, action, resource) unless { context has boot && context.boot.secure_boot == \"on\" };";
    let sources = [
        source("base", PERMIT),
        Source {
            observe: vec!["lab".into()],
            ..source("strict", strict)
        },
    ];
    let policies = Policies::compile(&sources).unwrap();
    let labels = ["lab".to_owned()];
    let of_lab = Subject {
        name: "node-1",
        labels: &labels,
        platform: "tpm",
    };
    let off = with("boot.secure_boot", ClaimValue::Text("off".into()));
    let decision = policies.decide(&of_lab, &off);
    assert!(decision.allowed);
    assert_eq!(decision.observed[0].label, "strict");
    assert_eq!(
        decision.observed[0].explanation,
        "strict/1 forbids (boot.secure_boot = off)"
    );
    assert!(policies.decide(&of_lab, &good()).observed.is_empty());
    let elsewhere = Subject {
        labels: &[],
        ..of_lab
    };
    assert!(!policies.decide(&elsewhere, &off).allowed);
}

#[test]
fn e22_a_firmware_on_the_denied_list_is_forbidden_for_its_maker_alone() {
    let mut leaky = good();
    leaky.set("device.manufacturer", ClaimValue::Text("STM".into()));
    leaky.set(
        "tpm.firmware_version",
        ClaimValue::Text("0x0049000400000000".into()),
    );
    let policies = [PERMIT, named("firmware-denied")];
    let decision = decide(&policies, &leaky);
    assert!(!decision.allowed);
    assert_eq!(decision.determining[0].id, "firmware-denied");
    leaky.set("device.manufacturer", ClaimValue::Text("IFX".into()));
    assert!(decide(&policies, &leaky).allowed);
}

#[test]
fn a_host_that_all_sets_only_observe_is_decided_about_by_what_decided_before() {
    let of_lab = Subject {
        name: "node-1",
        labels: &["lab".to_owned()],
        platform: "tpm",
    };
    let only = Source {
        observe: vec!["lab".into()],
        ..source("strict", named("secure-boot-known-keys"))
    };
    let fallback = Policies::compile(&[source("default", named("reference-values"))]).unwrap();
    let policies = Policies::compile(std::slice::from_ref(&only))
        .unwrap()
        .with_fallback(fallback);
    assert!(policies.only_observe(of_lab.labels) && !policies.only_observe(&[]));
    let off = with("boot.secure_boot", ClaimValue::Text("off".into()));
    let decision = policies.decide(&of_lab, &off);
    assert!(decision.allowed, "its reference values match");
    assert_eq!(decision.observed[0].label, "strict");
    let unknown = with("references.matched", ClaimValue::Texts(Vec::new()));
    assert!(!policies.decide(&of_lab, &unknown).allowed);
    // For other hosts the set decides.
    let other = Subject {
        labels: &[],
        ..of_lab
    };
    assert!(!policies.decide(&other, &off).allowed);
    assert!(policies.decide(&other, &unknown).allowed);
}

#[test]
fn a_serial_number_is_revoked_for_its_authority_alone() {
    let mut other = with("device.serial", ClaimValue::Text("54e1c0b7".into()));
    other.set("device.issuers", ClaimValue::Texts(vec!["00".into()]));
    let policies = [PERMIT, named("endorsements-revoked")];
    assert!(decide(&policies, &other).allowed);
    other.set("device.issuers", ClaimValue::Texts(vec![MAKERS_CA.into()]));
    let decision = decide(&policies, &other);
    assert!(!decision.allowed);
    assert_eq!(decision.determining[0].id, "certificate-revoked");
}

#[test]
fn p01_an_event_of_an_unknown_type_is_denied_where_policy_says_so() {
    let decision = decide(
        &[PERMIT, named("known-events-only")],
        &with("boot.unknown_events", ClaimValue::Int(1)),
    );
    assert!(!decision.allowed);
    assert_eq!(decision.determining[0].id, "known-events");
}

#[test]
fn a09_what_is_deeper_than_anybody_reads_is_refused_and_what_is_not_is_read_on_a_small_stack() {
    let condition = |operators: usize, nesting: usize| {
        let terms = vec!["context.device.vouched"; operators + 1].join(" && ");
        format!(
            "permit (principal, action, resource) when {{ {}{terms}{} }};",
            "(".repeat(nesting),
            ")".repeat(nesting)
        )
    };
    // As deep as it may be, on the stack that worker threads have.
    let deepest = condition(32, 15);
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let decided = worker
        .spawn(move || decide(&[&deepest], &good()).allowed)
        .unwrap();
    assert!(decided.join().unwrap());
    for (operators, nesting) in [(33, 0), (150, 0), (20_000, 0), (0, 16), (0, 200), (0, 100_000)] {
        let source = Source {
            label: "deep".into(),
            text: condition(operators, nesting),
            observe: Vec::new(),
        };
        let error = Policies::compile(&[source]).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
