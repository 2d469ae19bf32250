//! The rules that keep the workspace in order: which crate may depend on which, what links what, what pure crates may
//! not do, and how the sources are kept. `docs/ARCHITECTURE.md` gives the reasons.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// What each crate may depend on, itself, in its build script and in its tests: of our own crates, these.
/// `{a}` stands for all that `a` may use, and `a`. A crate that is not in the table does not belong to the workspace.
const ALLOWED: &[(&str, &str)] = &[
    ("identity", ""),
    ("crypto", ""),
    ("wimse", "identity crypto"),
    ("rats", "identity crypto"),
    ("verifier", "{wimse} {rats}"),
    ("policy", "{wimse} {rats}"),
    ("custody", "{wimse} {rats}"),
    ("issuer", "{verifier} {policy} {custody}"),
    ("token", "{verifier} {policy} {custody}"),
    ("store", "{issuer} {token}"),
    ("api", "{wimse} {rats} {custody}"),
    ("tls", "{wimse} {rats} {custody}"),
    ("external", "{tls}"),
    ("helper", "{api}"),
    (
        "server",
        "{store} {external} {helper} attestor-tpm attestor-snp attestor-tdx attestor-hsm",
    ),
    ("agent", "{external} {helper}"),
    ("gateway", "{tls} {helper} policy token"),
    ("client", "{tls} {helper}"),
    ("pkcs11", "{client}"),
    ("cli", "{server} {agent} {gateway} {client}"),
    ("attestor-tpm", "rats crypto"),
    ("attestor-snp", "rats crypto"),
    ("attestor-tdx", "rats crypto"),
    ("attestor-hsm", "rats crypto"),
    ("device", "api custody rats crypto"),
    ("simulators", ""),
    ("tests", "{cli} pkcs11 simulators"),
];

/// What the tests of a crate may use beyond that: appraisers are tested behind the state machine that drives them.
const ALLOWED_IN_TESTS: &[(&str, &str)] = &[
    ("attestor-tpm", "verifier"),
    ("attestor-snp", "verifier"),
    ("attestor-tdx", "verifier"),
    ("attestor-hsm", "verifier"),
];

/// Verification and issuance: no sockets, no files, no clock, no environment.
const PURE: &[&str] = &[
    "identity",
    "crypto",
    "wimse",
    "rats",
    "verifier",
    "policy",
    "custody",
    "issuer",
    "token",
    "attestor-tpm",
    "attestor-snp",
    "attestor-tdx",
    "attestor-hsm",
];

/// Crates that wait for a network or a reactor; no pure crate may reach one.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "reqwest",
    "async-std",
    "smol",
    "socket2",
    "tonic",
    "axum",
];

/// Crates from outside that have one door into the workspace: the crates that may depend on them.
const DOORS: &[(&str, &[&str])] = &[
    ("tss-esapi", &["touchmark-device"]),
    ("tss-esapi-sys", &["tss-esapi"]),
    ("cryptoki", &["touchmark-device"]),
    // The module that exports C symbols needs the types of the interface that it implements.
    ("cryptoki-sys", &["cryptoki", "touchmark-pkcs11"]),
    ("sqlx", &["touchmark-store"]),
    ("cedar-policy", &["touchmark-policy"]),
];

/// At the top level, beside dotfiles and the target folder.
const TOP: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "attestors",
    "docs",
    "simulators",
    "src",
    "tests",
];

const MAX_LINES: usize = 600;

/// A file of the repository.
pub(crate) struct Source {
    /// Relative to the top level.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The top level of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
}

/// The files below `src`, `attestors`, `simulators` and `tests` whose names end so, in order.
pub(crate) fn sources(extensions: &[&str]) -> Vec<Source> {
    let mut open: Vec<PathBuf> = ["src", "attestors", "simulators", "tests"]
        .map(|folder| repository().join(folder))
        .into();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            if !path.ends_with("target") {
                open.extend(
                    std::fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        } else if path
            .extension()
            .is_some_and(|end| extensions.iter().any(|wanted| end == *wanted))
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(repository()).unwrap().to_owned();
            found.push(Source { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(repository().join("Cargo.toml"))
        .exec()
        .expect("cargo metadata")
}

/// The name without `touchmark-`, for crates of the workspace.
fn short(name: &str) -> Option<&str> {
    name.strip_prefix("touchmark-")
}

fn allowed(name: &str) -> BTreeSet<&'static str> {
    let (_, list) = ALLOWED
        .iter()
        .find(|(of, _)| *of == name)
        .unwrap_or_else(|| panic!("{name} is not in the table of this test"));
    let mut all = BTreeSet::new();
    for word in list.split_whitespace() {
        match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
            Some(group) => {
                all.extend(allowed(group));
                all.insert(group);
            }
            None => {
                all.insert(word);
            }
        }
    }
    all
}

/// For each package, its direct dependencies of the given kinds, as resolved.
fn edges(metadata: &Metadata, kinds: &[DependencyKind]) -> BTreeMap<PackageId, Vec<PackageId>> {
    let resolve = metadata.resolve.as_ref().expect("resolved");
    let edge = |dependency: &cargo_metadata::NodeDep| {
        let counts = dependency.dep_kinds.iter().any(|info| kinds.contains(&info.kind));
        counts.then(|| dependency.pkg.clone())
    };
    resolve
        .nodes
        .iter()
        .map(|node| (node.id.clone(), node.deps.iter().filter_map(edge).collect()))
        .collect()
}

/// The names of everything that a package reaches.
fn closure(metadata: &Metadata, edges: &BTreeMap<PackageId, Vec<PackageId>>, of: &str) -> BTreeSet<String> {
    let mut open: Vec<&PackageId> = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() == of)
        .map(|package| &package.id)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(&edges[id]);
        }
    }
    seen.into_iter()
        .map(|id| metadata[id].name.to_string())
        .filter(|name| name != of)
        .collect()
}

const ANY: &[DependencyKind] = &[
    DependencyKind::Normal,
    DependencyKind::Build,
    DependencyKind::Development,
];
const PRODUCT: &[DependencyKind] = &[DependencyKind::Normal, DependencyKind::Build];

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let name = short(&package.name).expect("every crate of the workspace is named touchmark-...");
        let allowed = allowed(name);
        for dependency in &package.dependencies {
            let Some(other) = short(&dependency.name) else {
                continue;
            };
            let in_tests =
                dependency.kind == DependencyKind::Development && ALLOWED_IN_TESTS.contains(&(name, other));
            if !allowed.contains(other) && !in_tests {
                wrong.push(format!("{name} -> {other} ({})", dependency.kind));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that the design does not allow: {wrong:#?}"
    );
}

#[test]
fn the_table_of_allowed_edges_is_what_the_design_says() {
    for agent_side in ["agent", "client", "pkcs11", "helper", "external", "tls", "api"] {
        for server_side in ["verifier", "store", "issuer", "server"] {
            assert!(
                !allowed(agent_side).contains(server_side),
                "{agent_side} -> {server_side}"
            );
        }
    }
    for (name, _) in ALLOWED {
        assert!(!allowed(name).contains(name), "{name} depends on itself");
        assert!(
            !allowed(name).contains("device"),
            "{name} -> device: it is a program, not a library"
        );
        assert_eq!(
            allowed(name).contains("simulators"),
            *name == "tests",
            "{name} -> simulators"
        );
        if PURE.contains(name) {
            for other in allowed(name) {
                assert!(PURE.contains(&other), "{name} is pure, {other} is not");
            }
        }
    }
}

#[test]
fn the_agent_never_reaches_verifier_or_store() {
    let metadata = metadata();
    let edges = edges(&metadata, ANY);
    let reached = closure(&metadata, &edges, "touchmark-agent");
    assert!(!reached.is_empty());
    for forbidden in ["touchmark-verifier", "touchmark-store"] {
        assert!(
            !reached.contains(forbidden),
            "touchmark-agent reaches {forbidden}"
        );
    }
}

#[test]
fn hardware_storage_and_policy_have_one_door_each() {
    let metadata = metadata();
    let edges = edges(&metadata, ANY);
    for (id, dependencies) in &edges {
        let from = metadata[id].name.as_str();
        for dependency in dependencies {
            let to = metadata[dependency].name.as_str();
            if let Some((_, doors)) = DOORS.iter().find(|(name, _)| *name == to) {
                assert!(doors.contains(&from), "{from} -> {to}: only {doors:?} may");
            }
        }
    }
}

#[test]
fn only_the_helper_program_reaches_a_tpm_or_pkcs11_library() {
    let metadata = metadata();
    let edges = edges(&metadata, PRODUCT);
    for package in metadata.workspace_packages() {
        let reached = closure(&metadata, &edges, &package.name);
        for library in ["tss-esapi", "tss-esapi-sys", "cryptoki"] {
            assert!(
                !reached.contains(library) || package.name.as_str() == "touchmark-device",
                "{} reaches {library}",
                package.name
            );
        }
    }
}

#[test]
fn pure_crates_reach_no_network_and_no_runtime() {
    let metadata = metadata();
    let edges = edges(&metadata, PRODUCT);
    for package in metadata.workspace_packages() {
        if short(&package.name).is_some_and(|name| PURE.contains(&name)) {
            let reached = closure(&metadata, &edges, &package.name);
            for crate_name in IMPURE {
                assert!(
                    !reached.contains(*crate_name),
                    "{} reaches {crate_name}",
                    package.name
                );
            }
        }
    }
}

#[test]
fn every_crate_is_a_member_and_inherits_the_lints() {
    let metadata = metadata();
    let members: BTreeSet<PathBuf> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.manifest_path.clone().into_std_path_buf())
        .collect();
    for folder in ["src", "attestors"] {
        for entry in std::fs::read_dir(repository().join(folder)).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            assert!(
                members.contains(&manifest),
                "{} is not a member of the workspace",
                manifest.display()
            );
        }
    }
    for manifest in members {
        // The one crate that has to export C symbols needs `unsafe`, so it has a table of its own.
        if manifest.ends_with("src/pkcs11/Cargo.toml") {
            continue;
        }
        let text = std::fs::read_to_string(&manifest).unwrap();
        let lints = text.lines().skip_while(|line| line.trim() != "[lints]").nth(1);
        assert_eq!(
            lints.map(str::trim),
            Some("workspace = true"),
            "[lints] of {}",
            manifest.display()
        );
    }
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    let long: Vec<String> = sources(&["rs", "sh", "proto", "sql"])
        .iter()
        .filter(|source| source.text.lines().count() > MAX_LINES)
        .map(|source| format!("{}: {} lines", source.path.display(), source.text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_ignored() {
    // Written so that this file does not contain what it looks for.
    let words = [
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[", "ignore"].concat(),
    ];
    for source in sources(&["rs"]) {
        for (number, line) in source.text.lines().enumerate() {
            for word in &words {
                assert!(
                    !line.contains(word),
                    "{}:{}: {word}",
                    source.path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn pure_crates_read_no_clock_no_file_and_no_environment() {
    let words = [
        "SystemTime::now",
        "Instant::now",
        "OffsetDateTime::now",
        "UNIX_EPOCH.elapsed",
        "std::fs",
        "std::env",
        "std::process",
        "std::thread",
        "std::os",
        "TcpStream",
        "UnixStream",
        "UdpSocket",
    ];
    let mut seen = 0;
    for source in sources(&["rs"]) {
        let Some(code) = product_code(&source) else {
            continue;
        };
        seen += 1;
        for (number, line) in code.lines().enumerate() {
            for word in words {
                let comment = line.trim_start().starts_with("//");
                assert!(
                    comment || !line.contains(word),
                    "{}:{}: {word}",
                    source.path.display(),
                    number + 1
                );
            }
        }
    }
    assert!(seen > 20, "only {seen} files of pure crates found");
}

/// The text of a file of a pure crate, its test module blanked; `None` for other files, and for tests.
fn product_code(source: &Source) -> Option<String> {
    let is_pure = PURE.iter().any(|name| {
        let folder = match name.strip_prefix("attestor-") {
            Some(platform) => Path::new("attestors").join(platform),
            None => Path::new("src").join(name),
        };
        source.path.starts_with(folder.join("src"))
    });
    let is_test = source.path.components().any(|part| part.as_os_str() == "tests")
        || source.path.file_stem().is_some_and(|stem| stem == "tests");
    (is_pure && !is_test).then(|| without_test_modules(&source.text))
}

/// Blanks what stands between `#[cfg(test)]` and the closing brace of the module that follows.
fn without_test_modules(text: &str) -> String {
    let mut in_tests = false;
    let mut code = String::new();
    for line in text.lines() {
        in_tests |= line == "#[cfg(test)]";
        if !in_tests {
            code.push_str(line);
        }
        code.push('\n');
        let ends = line == "}" || line.starts_with("mod ") && line.ends_with(';');
        in_tests &= !ends;
    }
    code
}

#[test]
fn test_modules_are_told_from_the_code_around_them() {
    let text = "a\n#[cfg(test)]\nmod tests {\n    x\n}\nb\n#[cfg(test)]\nmod more;\nc\n";
    assert_eq!(
        without_test_modules(text).split_whitespace().collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
}

#[test]
fn the_top_level_is_fixed() {
    let mut found: Vec<String> = std::fs::read_dir(repository())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    found.sort();
    assert_eq!(found, TOP);
}
