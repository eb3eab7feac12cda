//! What happens to a repository between its owners and a client.

use serde_json::{Value, json};

use super::{
    generate::{EXPIRED, FRESH, NOW},
    json::{self as tree, Path, Seg, Twice, path, show},
    keys::Pool,
    random::Random,
    repository::{Action, Edit, Files, Repository, Signatures, TOP, root_version, write},
};

/// The sorts of mutations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    None,
    Flip,
    Change,
    Remove,
    Duplicate,
    Retype,
    Insert,
    Signatures(Signatures),
    Version,
    Expiry,
    Meta,
    Missing,
    Swap,
    Replay,
    TwoIds,
}

/// One mutation of one of two generations.
#[derive(Debug, Clone)]
pub(super) struct Mutation {
    pub(super) sort: Sort,
    /// 0 or 1: the generation that it befalls.
    pub(super) generation: usize,
    /// For people.
    pub(super) what: String,
    /// The documents that it touches.
    pub(super) documents: Vec<String>,
    /// The member changed, for mutations of members.
    pub(super) path: Path,
    /// What stands there then.
    pub(super) value: Value,
    pub(super) resigned: bool,
    pub(super) cascaded: bool,
    edits: Vec<Edit>,
    bit: usize,
}

impl Mutation {
    fn new(sort: Sort, generation: usize, document: &str) -> Self {
        Self {
            sort,
            generation,
            what: format!("{sort:?} {document}"),
            documents: vec![document.to_owned()],
            path: Path::new(),
            value: Value::Null,
            resigned: false,
            cascaded: false,
            edits: Vec::new(),
            bit: 0,
        }
    }

    /// Chooses a mutation of one of `generations`.
    pub(super) fn choose(random: &mut Random, generations: [&Repository; 2], pool: &Pool) -> Self {
        let generation = usize::from(random.percent(60));
        let repository = generations[generation];
        let document = document(random, repository);
        match random.below(100) {
            0..=19 => Self { documents: Vec::new(), ..Self::new(Sort::None, generation, "") },
            20..=31 => {
                let mut mutation = Self::new(Sort::Flip, generation, &document);
                mutation.bit = random.below(1 << 30);
                mutation
            }
            32..=59 => member(random, repository, generation, &document, pool),
            60..=69 => signatures(random, generation, &document),
            70..=75 => version(random, generations, generation, &document),
            76..=82 => expiry(random, generation, &document),
            83..=89 => meta(random, repository, generation, pool),
            90..=92 => Self::new(Sort::Missing, generation, &document),
            93..=94 => swap(random, repository, generation, &document),
            95..=97 => Self::new(Sort::Replay, 1, &document),
            _ => two_ids(random, repository, generation),
        }
    }

    /// The files of `generations[self.generation]` under this mutation.
    pub(super) fn files(&self, generations: [&Repository; 2], pool: &Pool) -> Files {
        let mut files = write(generations[self.generation], &self.edits, pool);
        let Some(file) = self.documents.first().and_then(|document| files.names.get(document)).cloned()
        else {
            return files;
        };
        match self.sort {
            Sort::Flip => {
                let bytes = files.bytes.get_mut(&file).expect("documents have files");
                let bit = self.bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Sort::Missing => drop(files.bytes.remove(&file)),
            Sort::Swap => {
                let other = files.names[&self.documents[1]].clone();
                let (one, two) = (files.bytes[&file].clone(), files.bytes[&other].clone());
                files.bytes.extend([(file, two), (other, one)]);
            }
            Sort::Replay => {
                let old = write(generations[0], &[], pool);
                if let Some(old) = old.names.get(&self.documents[0]).map(|name| old.bytes[name].clone()) {
                    files.bytes.insert(file, old);
                }
            }
            _ => {}
        }
        files
    }

    /// The byte that a flip made, in the file as it is then.
    pub(super) fn flipped(&self, files: &Files) -> Option<u8> {
        let bytes = files.bytes.get(files.names.get(self.documents.first()?)?)?;
        (self.sort == Sort::Flip).then(|| bytes[self.bit % (bytes.len() * 8) / 8])
    }
}

/// A document, the important ones more often.
fn document(random: &mut Random, repository: &Repository) -> String {
    match random.below(10) {
        0 | 1 => format!("root:{}", random.between(1, repository.roots.len())),
        2 => "timestamp".to_owned(),
        3 => "snapshot".to_owned(),
        4 => "targets".to_owned(),
        _ => random.pick(&repository.documents()).clone(),
    }
}

/// A member is changed, removed, doubled, of another type, or there is one more.
fn member(
    random: &mut Random,
    repository: &Repository,
    generation: usize,
    document: &str,
    pool: &Pool,
) -> Mutation {
    let files = write(repository, &[], pool);
    let bytes = &files.bytes[&files.names[document]];
    let whole: Value = serde_json::from_slice(bytes).expect("documents are JSON");
    let all = tree::paths(&whole);
    let signed: Vec<&Path> = all.iter().filter(|path| path[0] == Seg::Member("signed".to_owned())).collect();
    let at: Path =
        if random.percent(85) { (*random.pick(&signed)).clone() } else { random.pick(&all).clone() };
    let value = tree::get(&whole, &at).expect("the path is its own").clone();
    let named = matches!(at.last(), Some(Seg::Member(_)));
    let (sort, action) = match random.below(10) {
        0..=3 => (Sort::Change, Action::Set(at.clone(), other(random, &value))),
        4 | 5 => (Sort::Retype, Action::Set(at.clone(), retyped(random, &value))),
        6 if value.is_object() => {
            let mut inside = at.clone();
            inside.push(Seg::Member("x-unknown".to_owned()));
            let new =
                random.pick(&[json!(1), json!("e\u{301}"), json!(null), json!([{}]), json!(1.5)]).clone();
            (Sort::Insert, Action::Set(inside, new))
        }
        7 if named => {
            let (value, after) = (other(random, &value), random.percent(50));
            (Sort::Duplicate, Action::Twice(Twice { path: at.clone(), value, after }))
        }
        _ => (Sort::Remove, Action::Remove(at.clone())),
    };
    let mut mutation = Mutation::new(sort, generation, document);
    (mutation.path, mutation.value) = match &action {
        Action::Set(path, value) => (path.clone(), value.clone()),
        Action::Twice(twice) => (twice.path.clone(), twice.value.clone()),
        _ => (at, Value::Null),
    };
    mutation.resigned = random.percent(75);
    mutation.cascaded = random.percent(85);
    mutation.what = format!(
        "{sort:?} {document}{} := {}{}{}",
        show(&mutation.path),
        mutation.value,
        if mutation.resigned { ", signed again" } else { "" },
        if mutation.cascaded { ", META follows" } else { "" },
    );
    let (resign, cascade) = (mutation.resigned, mutation.cascaded);
    mutation.edits = vec![Edit { document: document.to_owned(), action, resign, cascade }];
    mutation
}

/// Another value of the same type.
fn other(random: &mut Random, value: &Value) -> Value {
    match value {
        Value::Bool(is) => json!(!is),
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(1);
            random
                .pick(&[
                    json!(number.saturating_add(1)),
                    json!(number.saturating_sub(1)),
                    json!(0),
                    json!(-1),
                    json!(1_u64 << 31),
                    json!(1_u64 << 53),
                    json!(i64::MAX),
                    json!(1_u64 << 63),
                    json!(u64::MAX),
                ])
                .clone()
        }
        Value::String(text) => {
            let mut cut = text.clone();
            let last = cut.pop();
            let odd = random.pick(&ODD_TIMES).to_string();
            match random.below(7) {
                0 => json!(""),
                1 => json!(text.to_uppercase()),
                2 => json!(format!("{text} ")),
                3 => json!(format!("{text}\u{301}")),
                4 if text.ends_with('Z') && text.len() == 20 => json!(odd),
                _ => json!(format!("{cut}{}", if last == Some('0') { '1' } else { '0' })),
            }
        }
        Value::Array(items) => match random.below(4) {
            0 => json!([]),
            1 if !items.is_empty() => json!(items[1..]),
            2 if !items.is_empty() => json!([items.as_slice(), &items[..1]].concat()),
            _ => Value::Array(items.iter().rev().cloned().collect()),
        },
        Value::Object(_) => json!({}),
        Value::Null => json!(1),
    }
}

/// A value of another type.
fn retyped(random: &mut Random, value: &Value) -> Value {
    match random.below(8) {
        0 => Value::Null,
        1 => json!(!value.is_boolean()),
        2 => json!([value]),
        3 => json!({"x": value}),
        4 => match value.as_i64() {
            #[expect(clippy::cast_precision_loss, reason = "any float will do")]
            Some(number) => json!(number as f64),
            None => json!(1),
        },
        5 => match value {
            Value::String(_) => json!(7),
            _ => json!(value.to_string()),
        },
        6 => json!([]),
        _ => json!(0),
    }
}

/// Times that are not quite of the form that TUF gives them.
const ODD_TIMES: [&str; 9] = [
    "2150-06-01T12:00:00+00:00",
    "2150-06-01T12:00:00.5Z",
    "2150-06-01t12:00:00z",
    "2150-06-01 12:00:00Z",
    "2150-6-1T12:00:00Z",
    "2150-02-30T00:00:00Z",
    "2150-06-01T23:59:60Z",
    "12150-06-01T12:00:00Z",
    "2150-06-01T12:00Z",
];

fn edited(sort: Sort, generation: usize, document: &str, action: Action, what: &str) -> Mutation {
    let mut mutation = Mutation::new(sort, generation, document);
    mutation.what = format!("{sort:?} {document} {what}");
    match &action {
        Action::Set(path, value) => (mutation.path, mutation.value) = (path.clone(), value.clone()),
        Action::Remove(path) => mutation.path.clone_from(path),
        _ => {}
    }
    (mutation.resigned, mutation.cascaded) = (true, true);
    mutation.edits = vec![Edit { document: document.to_owned(), action, resign: true, cascade: true }];
    mutation
}

fn signatures(random: &mut Random, generation: usize, document: &str) -> Mutation {
    let change = *random.pick(&[
        Signatures::Drop,
        Signatures::DropAll,
        Signatures::Twice,
        Signatures::Swap,
        Signatures::NotHex,
        Signatures::OddLength,
        Signatures::UpperCase,
        Signatures::Foreign,
        Signatures::Reverse,
        Signatures::Stranger,
    ]);
    let mut mutation = edited(Sort::Signatures(change), generation, document, Action::Signatures(change), "");
    mutation.resigned = false;
    mutation.edits[0].resign = false;
    mutation
}

/// Another version, signed by the owners: lower than in the first generation, or far ahead.
fn version(
    random: &mut Random,
    generations: [&Repository; 2],
    generation: usize,
    document: &str,
) -> Mutation {
    let held = match document {
        "timestamp" => generations[0].timestamp.0,
        "snapshot" => generations[0].snapshot.0,
        _ => match root_version(document) {
            Some(version) => version as u64,
            None => generations[0].roles.get(document).map_or(1, |role| role.version),
        },
    };
    let version =
        *random.pick(&[held.saturating_sub(1), held, held + 1, 0, 1, 1 << 40, (1 << 63) - 1, 1 << 63]);
    let action = Action::Set(path(&["signed", "version"]), json!(version));
    edited(Sort::Version, generation, document, action, &version.to_string())
}

fn expiry(random: &mut Random, generation: usize, document: &str) -> Mutation {
    let times = [
        EXPIRED[0],
        EXPIRED[1],
        EXPIRED[0],
        NOW,
        "2089-12-31T23:59:59Z",
        "2090-01-01T00:00:01Z",
        FRESH[2],
        *random.pick(&ODD_TIMES),
    ];
    let time = *random.pick(&times);
    let action = Action::Set(path(&["signed", "expires"]), json!(time));
    edited(Sort::Expiry, generation, document, action, time)
}

/// What timestamp or snapshot say of another document.
fn meta(random: &mut Random, repository: &Repository, generation: usize, pool: &Pool) -> Mutation {
    let document = if random.percent(40) { "timestamp" } else { "snapshot" };
    let files = write(repository, &[], pool);
    let whole: Value = serde_json::from_slice(&files.bytes[&files.names[document]]).expect("it is JSON");
    let metas = whole["signed"]["meta"].as_object().expect("both have META");
    let listed: Vec<&String> = metas.keys().collect();
    let name = (*random.pick(&listed)).clone();
    let mut at = path(&["signed", "meta", &name]);
    let version = metas[&name]["version"].as_u64().unwrap_or(1);
    let mut inside = |members: &[&str], value: Value| {
        at.extend(path(members));
        Action::Set(at.clone(), value)
    };
    let length = metas[&name]["length"].as_u64();
    let action = match random.below(8) {
        0 => Action::Remove(at),
        1 => inside(&["version"], json!(version + 1)),
        2 => inside(&["version"], json!(version - 1)),
        3 => inside(&["length"], json!(length.unwrap_or(100) + 1)),
        4 => inside(&["length"], json!(length.map_or(10, |length| length - 1))),
        5 => inside(&["hashes", "sha256"], json!("00".repeat(32))),
        6 => inside(&["hashes"], json!({"sha512": "00".repeat(64)})),
        _ => inside(&["hashes"], json!({"x-hash": "00"})),
    };
    let what = match &action {
        Action::Set(path, value) => format!("{} := {value}", show(path)),
        _ => format!("without {name}"),
    };
    edited(Sort::Meta, generation, document, action, &what)
}

fn swap(random: &mut Random, repository: &Repository, generation: usize, document: &str) -> Mutation {
    let other = random.pick(&repository.documents()).clone();
    let mut mutation = Mutation::new(Sort::Swap, generation, document);
    mutation.what = format!("Swap {document} with {other}");
    mutation.documents.push(other);
    mutation
}

/// One key is given to a role under two ids, and signs under both: it meets a threshold of two alone.
fn two_ids(random: &mut Random, repository: &Repository, generation: usize) -> Mutation {
    let children: Vec<(&String, &String)> = repository
        .roles
        .iter()
        .filter(|(_, role)| !role.unpublished)
        .flat_map(|(parent, role)| role.children.iter().map(move |child| (parent, &child.name)))
        .filter(|(parent, child)| parent != child && !repository.roles[*child].unpublished)
        .collect();
    let newest = format!("root:{}", repository.roots.len());
    let (delegator, role) = if children.is_empty() || random.percent(50) {
        (newest, (*random.pick(&TOP[1..])).to_owned())
    } else {
        let (parent, child) = *random.pick(&children);
        (parent.clone(), child.clone())
    };
    let action = Action::TwoIds(role.clone());
    let mut mutation = edited(Sort::TwoIds, generation, &delegator, action, &format!("for {role}"));
    let key = match repository.root().sets.get(&role) {
        Some(set) => set.keys[0],
        None => {
            let child = repository.roles[&delegator].children.iter().find(|child| child.name == role);
            child.expect("just chosen").set.keys[0]
        }
    };
    let action = Action::SecondId(key);
    mutation.edits.push(Edit { document: role.clone(), action, resign: false, cascade: true });
    mutation.documents.push(role);
    mutation
}
