//! `docs/REQUIREMENTS.md` tells the truth: every row is there, every test that it names exists, and every test that is
//! written for a row is named in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::architecture::{repository, sources};

/// The attacks that the product has to refuse by now.
const ATTACKS: &str = "E01 E02 E03 E04 E05 E06 E07 E08 E09 E10 E12 E13 E14 E15 E16 E17 E24 E26 E27 E28 E29 \
    D06 C02 A01 A13 T09 W11";

/// A row of a table whose first cell is a number such as `R62` or `E05`.
struct Row {
    id: String,
    /// The tests that it names, as `place::name`.
    tests: BTreeSet<String>,
    /// The last cell.
    status: String,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(repository().join("docs/REQUIREMENTS.md")).unwrap();
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line
                .strip_prefix('|')?
                .strip_suffix('|')?
                .split('|')
                .map(str::trim)
                .collect();
            let id = (*cells.first()?).to_owned();
            let (kind, number) = id.split_at_checked(1)?;
            let is_row = kind.chars().all(|c| c.is_ascii_uppercase())
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit());
            is_row.then(|| {
                let status = (*cells.last().unwrap()).to_owned();
                let tests = status.split('`').skip(1).step_by(2).map(str::to_owned).collect();
                Row { id, tests, status }
            })
        })
        .collect()
}

/// Every function of the repository, with the places by which it may be named: the file, and the folders above it.
fn functions() -> BTreeMap<String, BTreeSet<String>> {
    let mut functions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources(&["rs"]) {
        let places = places(&source.path);
        for line in source.text.lines() {
            let Some((before, after)) = line.split_once("fn ") else {
                continue;
            };
            if before
                .split_whitespace()
                .any(|word| !["pub", "pub(crate)", "async"].contains(&word))
            {
                continue;
            }
            let name: String = after
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            functions.entry(name).or_default().extend(places.iter().cloned());
        }
    }
    functions
}

fn places(path: &Path) -> BTreeSet<String> {
    path.with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect()
}

/// The rows that a test is for, from the front of its name: `r020_r030_...` is for R20 and R30, `e12_w11_...` for E12
/// and W11.
fn ids(name: &str) -> Vec<String> {
    let id = |part: &str| {
        let (kind, number) = part.split_at_checked(1)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        match (kind, number.len()) {
            ("r", 3) if digits => Some(format!("R{}", number.trim_start_matches('0'))),
            ("a" | "c" | "d" | "e" | "l" | "p" | "s" | "t" | "w", 2) if digits => {
                Some(format!("{}{number}", kind.to_uppercase()))
            }
            _ => None,
        }
    };
    name.split('_').map_while(id).collect()
}

#[test]
fn names_of_tests_tell_their_rows() {
    assert_eq!(ids("r062_a_tpm_is_attested"), ["R62"]);
    assert_eq!(ids("e12_w11_r097_one_message"), ["E12", "W11", "R97"]);
    assert!(
        ids("x509_text").is_empty() && ids("b10_b12_enrolment").is_empty() && ids("p256_point").is_empty()
    );
}

#[test]
fn every_requirement_has_its_row() {
    let found: Vec<String> = rows()
        .into_iter()
        .map(|row| row.id)
        .filter(|id| id.starts_with('R'))
        .collect();
    let expected: Vec<String> = (1..=99).map(|number| format!("R{number}")).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_attack_of_this_stage_has_its_row_and_none_has_two() {
    let mut found = BTreeSet::new();
    for row in rows() {
        assert!(found.insert(row.id.clone()), "{} is there twice", row.id);
    }
    for attack in ATTACKS.split_whitespace() {
        assert!(found.contains(attack), "{attack} has no row");
    }
}

#[test]
fn every_row_names_tests_or_says_not_yet() {
    for row in rows() {
        assert!(
            !row.tests.is_empty() || row.status.starts_with("not yet"),
            "{}: {:?} neither names a test nor begins with \"not yet\"",
            row.id,
            row.status
        );
    }
}

#[test]
fn every_test_that_a_row_names_exists() {
    let functions = functions();
    let mut wrong = Vec::new();
    for row in rows() {
        for test in &row.tests {
            let exists = test.split_once("::").is_some_and(|(place, name)| {
                functions.get(name).is_some_and(|places| places.contains(place))
            });
            if !exists {
                wrong.push(format!("{}: `{test}`", row.id));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "named in docs/REQUIREMENTS.md, but not there: {wrong:#?}"
    );
}

#[test]
fn every_test_written_for_a_row_is_named_in_it() {
    let rows: BTreeMap<String, Row> = rows().into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut wrong = Vec::new();
    for name in functions().keys() {
        for id in ids(name) {
            let named = |row: &Row| row.tests.iter().any(|test| test.ends_with(&format!("::{name}")));
            if !rows.get(&id).is_some_and(named) {
                wrong.push(format!("{id}: {name}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "add these tests to their rows in docs/REQUIREMENTS.md: {wrong:#?}"
    );
}
