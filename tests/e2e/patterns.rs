//! Path patterns: what we emit covers the same names for python-tuf and go-tuf as for us.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_core::{policy::Scope, tuf::matches};
use plimsoll_tests::peers;
use serde::Deserialize;

/// `tests/peers/go-tuf-patterns.json`, which says itself how its verdicts were made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    about: BTreeMap<String, String>,
    scopes: Vec<Scope>,
    names: Vec<String>,
    emitted: BTreeMap<String, Vec<usize>>,
    others: Vec<Other>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Other {
    pattern: String,
    name: String,
    ours: bool,
    python_tuf: bool,
    go_tuf: bool,
    why: Option<String>,
}

fn table() -> Table {
    serde_json::from_str(include_str!("../peers/go-tuf-patterns.json")).unwrap()
}

/// T38: hostile and odd names against every pattern of every kind of scope: one verdict in three implementations.
#[test]
fn emitted_patterns_cover_the_same_names_for_everyone() {
    let table = table();
    let requirements = include_str!("../peers/requirements.txt");
    assert!(
        requirements.contains(&format!("\ntuf=={}\n", table.about["python_tuf"])),
        "the table is of another"
    );
    let emitted: BTreeSet<String> = table.scopes.iter().flat_map(Scope::patterns).collect();
    assert!(emitted.iter().eq(table.emitted.keys()), "the table has a row for each pattern of its scopes");

    let questions: Vec<_> = emitted.iter().map(|pattern| (pattern.clone(), table.names.clone())).collect();
    for ((pattern, names), python) in questions.iter().zip(peers::delegated_paths(&questions)) {
        for (at, (name, python)) in names.iter().zip(python).enumerate() {
            let ours = matches(pattern, name);
            assert_eq!(ours, python, "python-tuf: {pattern} ~ {name:?}");
            assert_eq!(ours, table.emitted[pattern].contains(&at), "go-tuf: {pattern} ~ {name:?}");
        }
    }
}

/// T38: patterns that no scope compiles to: who reads them how, and why not alike.
#[test]
fn what_is_read_in_two_ways_is_never_emitted() {
    let table = table();
    let questions: Vec<_> =
        table.others.iter().map(|other| (other.pattern.clone(), vec![other.name.clone()])).collect();
    for (other, python) in table.others.iter().zip(peers::delegated_paths(&questions)) {
        let Other { pattern, name, .. } = other;
        assert_eq!(matches(pattern, name), other.ours, "{pattern} ~ {name:?}");
        assert_eq!(python, [other.python_tuf], "python-tuf: {pattern} ~ {name:?}");
        let agreed = other.ours == other.python_tuf && other.ours == other.go_tuf;
        assert_eq!(agreed, other.why.is_none(), "{pattern} ~ {name:?}");
        // Where they differ, the pattern has a character that no scope can hold.
        assert!(agreed || pattern.contains(['[', '\\']), "{pattern} ~ {name:?}");
    }
    assert!(table.others.iter().any(|other| other.why.is_some()));
}

/// T38: generated scopes and names that they cover, or just do not. `PLIMSOLL_DIFFERENTIAL_SEED` for others.
#[test]
fn generated_scopes_cover_the_same_names_in_python_tuf() {
    let seed = std::env::var("PLIMSOLL_DIFFERENTIAL_SEED").map_or(1, |text| text.parse().unwrap());
    let mut generator = Generator(seed);
    let mut questions = Vec::new();
    for _ in 0..600 {
        for pattern in generator.scope().patterns() {
            let names = (0..6).map(|_| generator.name(&pattern)).collect();
            questions.push((pattern, names));
        }
    }
    let (mut asked, mut covered) = (0, 0);
    for ((pattern, names), python) in questions.iter().zip(peers::delegated_paths(&questions)) {
        // Letters, and `*`, which go-tuf reads as we do: no `?`, set, escape or anything else with a second reading.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@*".contains(c);
        assert!(pattern.chars().all(plain), "{pattern}");
        for (name, python) in names.iter().zip(python) {
            assert_eq!(matches(pattern, name), python, "{pattern} ~ {name:?}");
            asked += 1;
            covered += usize::from(python);
        }
    }
    assert!(asked > 5_000 && covered > asked / 4 && covered < asked * 3 / 4, "{covered} of {asked} covered");
}

/// Makes scopes and names, the same ones for the same seed.
struct Generator(u64);

impl Generator {
    /// One of `0..below` (xorshift64*, Vigna 2016).
    fn pick(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32).unwrap();
        high % below
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.pick(of.len())]
    }

    fn scope(&mut self) -> Scope {
        let words = ["a", "b", "ab", "a.b", "a_b", "a__b", "a-b", "9", "a--b"];
        let depth = 1 + self.pick(4);
        let prefix: Vec<_> = (0..depth).map(|_| self.one_of(&words)).collect();
        let suffix = match self.pick(5) {
            0 => "/*",
            1 => "/**",
            2 => self.one_of(&[":v1", ":A", ":_x.y-z", ":1.2.3"]),
            3 => self.one_of(&[":*", ":v*", ":*a", ":a*b*", ":**", ":a*b*a*b", ":*.*"]),
            _ => "",
        };
        (prefix.join("/") + suffix).parse().unwrap()
    }

    /// A name like `pattern`: a text for each star, and most times something a little off.
    fn name(&mut self, pattern: &str) -> String {
        let texts = [
            "",
            "a",
            "b",
            "ab",
            "abab",
            "v1",
            ".",
            "..",
            "a:b",
            "x@sha256:0",
            "é",
            "e\u{301}",
            "\n",
            "*",
            "[a]",
            "🦀",
        ];
        let mut name: Vec<char> = Vec::new();
        for c in pattern.chars() {
            if c == '*' { name.extend(self.one_of(&texts).chars()) } else { name.push(c) }
        }
        let at = self.pick(name.len() + 1);
        match self.pick(8) {
            0 => name.insert(at, '/'),
            1 if at < name.len() => drop(name.remove(at)),
            2 if at < name.len() => name[at] = name[at].to_ascii_uppercase(),
            3 => name.insert(at, ['x', 'é', '%', '\0', '\\', '?'][self.pick(6)]),
            4 => name.splice(0..0, "./".chars()).for_each(drop),
            _ => {}
        }
        name.into_iter().collect()
    }
}
