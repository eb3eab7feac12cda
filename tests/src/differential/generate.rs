//! Repositories by chance: a first generation, and a second one that its owners made of it.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use plimsoll_core::tuf::matches;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{
    keys::{Kind, Pool, Spelling},
    random::Random,
    repository::{Bins, Child, KeySet, MetaStyle, Paths, Repository, Role, Root, TOP, hashes},
};

/// The time at which repositories are judged. What expires does so long before it or long after it, or within a second
/// of it: tough judges by the system's clock.
pub(super) const NOW: &str = "2090-01-01T00:00:00Z";
pub(super) const FRESH: [&str; 3] = ["2150-06-01T12:00:00Z", "2199-12-31T23:59:59Z", "9999-01-01T00:00:00Z"];
pub(super) const EXPIRED: [&str; 2] = ["2020-02-29T23:59:59Z", "1999-01-01T00:00:00Z"];

const SPEC_VERSIONS: [&str; 5] = ["1.0.31", "1.0.34", "1.0.0", "1.0", "1.99.7"];
const MAX_DEPTH: usize = 4;
const MAX_ROLES: usize = 14;
const FOLDERS: [&str; 4] = ["a", "b", "ab", "acme"];
const FILES: [&str; 6] = ["x", "y", "xy", "x.z", "app:v1", "é"];
const ODD_ROLES: [&str; 6] = ["r/?", "../up", "%41", "two words", "é#", "a.b"];

/// Generations of one repository.
pub(super) struct Generations {
    pub(super) first: Repository,
    pub(super) second: Repository,
    /// The second one, or what its owners publish after an accident: all of it under newer versions.
    pub(super) third: Repository,
    /// What is unusual about them.
    pub(super) features: BTreeSet<&'static str>,
    pub(super) names: Vec<String>,
}

pub(super) fn generate(random: &mut Random, pool: &Pool) -> Generations {
    let mut features = BTreeSet::new();
    let mut maker =
        Maker { random, pool, features: &mut features, all_names: all_names(), kinds: Vec::new(), made: 0 };
    let first = maker.first();
    let second = maker.second(&first);
    let third = maker.third(&second);
    let names = maker.names(&first, &second);
    Generations { first, second, third, features, names }
}

/// Every name that may occur.
fn all_names() -> Vec<String> {
    let mut folders = vec![String::new()];
    for one in FOLDERS {
        folders.push(format!("{one}/"));
        folders.extend(FOLDERS.iter().map(|two| format!("{one}/{two}/")));
    }
    folders.iter().flat_map(|folder| FILES.iter().map(move |file| format!("{folder}{file}"))).collect()
}

struct Maker<'a> {
    random: &'a mut Random,
    pool: &'a Pool,
    features: &'a mut BTreeSet<&'static str>,
    all_names: Vec<String>,
    /// The keys that this repository draws from.
    kinds: Vec<usize>,
    /// How many roles were made: no name is given twice.
    made: usize,
}

impl Maker<'_> {
    /// True in so many of 1000 cases, which is then a feature of the repository.
    fn feature(&mut self, name: &'static str, per_mille: usize) -> bool {
        let has = self.random.per_mille(per_mille);
        if has {
            self.features.insert(name);
        }
        has
    }

    fn first(&mut self) -> Repository {
        self.kinds = self.pool.of(Kind::Ed25519);
        if self.random.percent(40) {
            self.kinds.extend(self.pool.of(Kind::P256));
        }
        if self.feature("p384", 30) {
            self.kinds.extend(self.pool.of(Kind::P384));
        }
        if self.feature("rsa", 40) {
            self.kinds.extend(self.pool.of(Kind::Rsa));
        }
        let spelling = Spelling {
            opaque: self.feature("opaque-ids", 40),
            points: self.feature("points", 30),
            old_type: self.random.percent(10),
        };
        let consistent = !self.random.percent(25);
        let sets = TOP.iter().map(|&role| (role.to_owned(), self.set())).collect();
        let mut repository = Repository {
            spelling,
            spec_version: SPEC_VERSIONS[self.random.below(SPEC_VERSIONS.len())],
            wide: self.random.percent(20),
            extra: self.random.percent(15),
            delegation_extra: self.feature("delegation-extra", 30),
            unknown_key: self.feature("unknown-key", 10),
            trust: self.random.percent(10).then(|| "0123456789abcdef0123456789abcdef".to_owned()),
            timestamp_meta: self.meta_style(),
            snapshot_meta: self.meta_style(),
            roots: vec![Root { sets, consistent, expires: self.fresh() }],
            timestamp: (self.version(), self.fresh()),
            snapshot: (self.version(), self.fresh()),
            roles: BTreeMap::new(),
            removed: BTreeMap::new(),
        };
        for _ in 0..[0, 0, 0, 1, 1, 2, 3][self.random.below(7)] {
            let role = *self.random.pick(&TOP);
            self.rotate(&mut repository, role);
            // Only the newest root has to be fresh.
            let at = repository.roots.len() - 2;
            if self.random.percent(30) {
                repository.roots[at].expires = self.expired();
            }
        }
        let signers = repository.root().sets["targets"].signers();
        repository.roles.insert("targets".to_owned(), self.role(signers));
        let depth = self.random.between(0, MAX_DEPTH);
        self.grow(&mut repository, "targets", &[], depth);
        self.fill(&mut repository, "targets", &[]);
        repository
    }

    fn fresh(&mut self) -> String {
        (*self.random.pick(&FRESH)).to_owned()
    }

    fn expired(&mut self) -> String {
        (*self.random.pick(&EXPIRED)).to_owned()
    }

    fn version(&mut self) -> u64 {
        *self.random.pick(&[1, 1, 1, 2, 7, 1000, (1 << 31) - 1, 1 << 31, (1 << 53) + 1])
    }

    fn set(&mut self) -> KeySet {
        let count = self.random.between(1, 4);
        // RSA signs slowly in a debug build: not as often as the others.
        let mut keys = self.random.some(&self.kinds.clone(), count);
        if keys.len() > 1 && self.random.percent(50) {
            keys.retain(|&key| self.pool.kind(key) != Kind::Rsa);
        }
        if keys.is_empty() {
            keys.push(0);
        }
        let threshold = self.random.between(1, keys.len().min(3));
        let signing = self.random.between(threshold, keys.len());
        KeySet { keys, threshold, signing }
    }

    fn meta_style(&mut self) -> MetaStyle {
        let mut style = MetaStyle { length: self.random.percent(50), ..MetaStyle::default() };
        match self.random.below(50) {
            0..=21 => {}
            22..=43 => style.sha256 = true,
            44 => {
                self.features.insert("sha512-only");
                style.sha512 = true;
            }
            45..=48 => (style.sha256, style.sha512) = (true, true),
            _ => {
                self.features.insert("unknown-hash");
                (style.sha256, style.unknown) = (true, true);
            }
        }
        style
    }

    fn role(&mut self, signers: Vec<usize>) -> Role {
        Role {
            version: self.version(),
            expires: self.fresh(),
            targets: BTreeMap::new(),
            children: Vec::new(),
            bins: None,
            empty_delegations: self.random.percent(20),
            signers,
            unpublished: false,
        }
    }

    /// Delegations below `parent`; `above` is what each delegation on the way to it covers.
    fn grow(&mut self, repository: &mut Repository, parent: &str, above: &[Paths], depth: usize) {
        if depth == 0 || repository.roles.len() >= MAX_ROLES {
            return;
        }
        if self.random.percent(8) {
            self.features.insert("bins");
            return self.grow_bins(repository, parent, above);
        }
        for _ in 0..self.random.between(0, 3) {
            if repository.roles.len() >= MAX_ROLES {
                return;
            }
            self.delegate(repository, parent, above, depth);
        }
    }

    fn grow_bins(&mut self, repository: &mut Repository, parent: &str, above: &[Paths]) {
        self.made += 1;
        let number = self.made;
        let bins = Bins { prefix: format!("bin{number}"), bits: self.random.between(1, 3), set: self.set() };
        for name in bins.names() {
            let mut role = self.role(bins.set.signers());
            for target in self.covered(above).into_iter().filter(|target| bins.of(target) == name).take(2) {
                let listed = self.target(&name, &target);
                role.targets.insert(target, listed);
            }
            repository.roles.insert(name, role);
        }
        repository.roles.get_mut(parent).expect("it was made before").bins = Some(bins);
    }

    fn delegate(&mut self, repository: &mut Repository, parent: &str, above: &[Paths], depth: usize) {
        let set = self.set();
        let paths = self.paths();
        let terminating = self.random.percent(25);
        let siblings: Vec<&String> =
            repository.roles[parent].children.iter().map(|child| &child.name).collect();
        // Another way to a role that is there: a diamond, or a circle.
        let known: Vec<String> = repository
            .roles
            .keys()
            .filter(|name| *name != "targets" && !siblings.contains(name) && !name.starts_with("bin"))
            .cloned()
            .collect();
        if !known.is_empty() && self.random.percent(10) {
            self.features.insert("second-way");
            let name = self.random.pick(&known).clone();
            let same = find_set(repository, &name);
            let set = match same {
                Some(same) if !self.feature("other-keys", 300) => same,
                _ => set,
            };
            let child = Child { name, set, terminating, paths };
            repository.roles.get_mut(parent).expect("it was made before").children.push(child);
            return;
        }
        self.made += 1;
        let number = self.made;
        let name = if self.random.percent(7) {
            format!("{}{number}", self.random.pick(&ODD_ROLES))
        } else {
            format!("r{number}")
        };
        let mut role = self.role(set.signers());
        if self.feature("expired-role", 25) {
            role.expires = self.expired();
        }
        role.unpublished = self.feature("unpublished", 15);
        repository.roles.insert(name.clone(), role);
        let child = Child { name: name.clone(), set, terminating, paths: paths.clone() };
        repository.roles.get_mut(parent).expect("it was made before").children.push(child);
        let above: Vec<Paths> = above.iter().cloned().chain([paths]).collect();
        self.grow(repository, &name, &above, depth - 1);
        self.fill(repository, &name, &above);
    }

    fn paths(&mut self) -> Paths {
        if self.random.percent(12) {
            let prefixes = (0..self.random.between(1, 3)).map(|_| {
                let hash =
                    HEXLOWER.encode(digest(&SHA256, self.random.pick(&self.all_names).as_bytes()).as_ref());
                hash[..if self.random.percent(2) { 0 } else { self.random.between(1, 3) }].to_owned()
            });
            return Paths::HashPrefixes(prefixes.collect());
        }
        Paths::Patterns((0..self.random.between(1, 3)).map(|_| self.pattern()).collect())
    }

    /// A pattern that some name matches.
    fn pattern(&mut self) -> String {
        let name = self.random.pick(&self.all_names).clone();
        if self.feature("brackets", 8) {
            return self.random.pick(&["[ab]/x", "a/[!b]", "{a,b}/x", "a[b]/y", "[a/x"]).to_string();
        }
        let segments = name.split('/').map(|segment| {
            let first: String = segment.chars().take(1).collect();
            let rest: String = segment.chars().skip(1).collect();
            match self.random.below(12) {
                0..=4 => segment.to_owned(),
                5..=8 => "*".to_owned(),
                9 => format!("{first}*"),
                10 => format!("?{rest}"),
                _ => format!("*{rest}"),
            }
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// The names that every one of `above` covers.
    fn covered(&self, above: &[Paths]) -> Vec<String> {
        self.all_names.iter().filter(|name| above.iter().all(|paths| covers(paths, name))).cloned().collect()
    }

    /// Entries of `role`, most of them inside its scope.
    fn fill(&mut self, repository: &mut Repository, role: &str, above: &[Paths]) {
        let mut names = self.covered(above);
        if self.feature("out-of-scope", 15) {
            names = self.all_names.clone();
        }
        for _ in 0..self.random.between(0, 3) {
            if names.is_empty() {
                return;
            }
            let name = self.random.pick(&names).clone();
            let target = self.target(role, &name);
            repository.roles.get_mut(role).expect("it was made before").targets.insert(name, target);
        }
    }

    /// An entry whose hash says who lists it.
    fn target(&mut self, role: &str, name: &str) -> Value {
        let content = format!("{role} {name} {}", self.random.next());
        let (mut sha256, mut sha512) = (true, self.random.percent(10));
        if self.feature("sha512-only", 8) {
            (sha256, sha512) = (false, true);
        }
        let mut target =
            json!({"length": content.len(), "hashes": hashes(content.as_bytes(), sha256, sha512)});
        if self.random.percent(20) {
            target["custom"] =
                json!({"mediaType": "text/plain", "note": self.random.pick(&["é", "\u{1f600}", "x"])});
        }
        if self.feature("unnormalised", 8) {
            target["custom"] = json!({"note": "e\u{301} \u{212b}"});
        }
        target
    }

    /// What the owners made of `first`; every step is one that a client has to follow.
    fn second(&mut self, first: &Repository) -> Repository {
        let mut second = first.clone();
        if self.random.percent(10) {
            return second;
        }
        let before = second.clone();
        for _ in 0..self.random.between(0, 4) {
            match self.random.below(10) {
                0..=3 => self.change_role(&mut second),
                4 => self.rotate_child(&mut second),
                5 => self.remove_child(&mut second),
                6 => {
                    let parent = self.any_role(&second);
                    if second.roles[&parent].bins.is_none() {
                        second.roles.get_mut(&parent).expect("just chosen").version += 1;
                        self.delegate(&mut second, &parent, &[], 1);
                    }
                }
                7 | 8 => {
                    let role = *self.random.pick(&TOP);
                    self.rotate(&mut second, role);
                }
                _ => self.recover(&mut second),
            }
        }
        let changed = format!("{:?}", before.roles) != format!("{:?}", second.roles)
            || format!("{:?}", before.removed) != format!("{:?}", second.removed);
        if changed || self.random.percent(20) {
            second.snapshot.0 += 1;
        }
        second.timestamp.0 += self.random.between(1, 2) as u64;
        second
    }

    fn third(&mut self, second: &Repository) -> Repository {
        let mut third = second.clone();
        if self.random.percent(75) {
            third.timestamp.0 += 2;
            third.snapshot.0 += 2;
            third.roles.values_mut().for_each(|role| role.version += 2);
        }
        third
    }

    fn any_role(&mut self, repository: &Repository) -> String {
        let published: Vec<&String> =
            repository.roles.iter().filter(|(_, role)| !role.unpublished).map(|(name, _)| name).collect();
        (*self.random.pick(&published)).clone()
    }

    fn change_role(&mut self, repository: &mut Repository) {
        let name = self.any_role(repository);
        let target_name = self.random.pick(&self.all_names).clone();
        let target = self.target(&name, &target_name);
        let role = repository.roles.get_mut(&name).expect("just chosen");
        role.version += 1;
        match self.random.below(3) {
            // Only what the role already lists: a name inside its scope.
            0 if !role.targets.is_empty() => {
                let last = role.targets.last_entry().expect("not empty").key().clone();
                role.targets.insert(last, target);
            }
            1 if name == "targets" => drop(role.targets.insert(target_name, target)),
            _ => drop(role.targets.pop_first()),
        }
    }

    /// A delegated role gets other keys, and is signed by them.
    fn rotate_child(&mut self, repository: &mut Repository) {
        let parents: Vec<String> = repository
            .roles
            .iter()
            .filter(|(_, role)| !role.unpublished && !role.children.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if parents.is_empty() || self.features.contains("second-way") {
            return;
        }
        let set = self.set();
        let parent = repository.roles.get_mut(self.random.pick(&parents)).expect("just chosen");
        parent.version += 1;
        let at = self.random.below(parent.children.len());
        parent.children[at].set = set.clone();
        let name = parent.children[at].name.clone();
        let child = repository.roles.get_mut(&name).expect("delegations lead to roles");
        child.version += 1;
        child.signers = set.signers();
        child.unpublished = false;
    }

    /// A delegation goes; its role stays in the snapshot, and so do those below it.
    fn remove_child(&mut self, repository: &mut Repository) {
        let name = self.any_role(repository);
        let role = repository.roles.get_mut(&name).expect("just chosen");
        if role.children.is_empty() {
            return;
        }
        role.version += 1;
        let at = self.random.below(role.children.len());
        let gone = role.children.remove(at).name;
        let leads =
            repository.roles.values().any(|role| role.children.iter().any(|child| child.name == gone));
        if !leads
            && self.random.percent(50)
            && let Some(role) = repository.roles.remove(&gone)
            && !role.unpublished
        {
            repository.removed.insert(gone, role.version);
        }
    }

    /// The next root gives `role` other keys, and what they sign is signed again.
    fn rotate(&mut self, repository: &mut Repository, role: &str) {
        let mut root = repository.root().clone();
        root.expires = self.fresh();
        let old = root.sets[role].clone();
        let mut set = self.set();
        // Some rotations keep a key, or only add one.
        if self.random.percent(40) {
            for &key in &old.keys {
                if set.keys.len() < 4 && !set.keys.contains(&key) {
                    set.keys.push(key);
                }
            }
        }
        if self.random.percent(5) {
            root.consistent = !root.consistent;
        }
        root.sets.insert(role.to_owned(), set);
        repository.roots.push(root);
        match role {
            "timestamp" => repository.timestamp.0 += 1,
            "snapshot" => {
                repository.snapshot.0 += 1;
                repository.timestamp.0 += 1;
            }
            "targets" => {
                let signers = repository.root().sets["targets"].signers();
                if let Some(targets) = repository.roles.get_mut("targets") {
                    targets.version += 1;
                    targets.signers = signers;
                    repository.snapshot.0 += 1;
                }
            }
            _ => {}
        }
    }

    /// Fast-forward recovery (5.3.11): versions start again under keys that were never used before.
    fn recover(&mut self, repository: &mut Repository) {
        self.features.insert("recovery");
        let both = self.random.percent(50);
        let unused = |repository: &Repository, kinds: &[usize]| {
            let used: BTreeSet<usize> = repository
                .roots
                .iter()
                .flat_map(|root| root.sets.values())
                .flat_map(|set| set.keys.clone())
                .collect();
            kinds.iter().copied().find(|key| !used.contains(key))
        };
        for role in if both { &["timestamp", "snapshot"][..] } else { &["timestamp"] } {
            let Some(key) = unused(repository, &self.kinds) else { return };
            let mut root = repository.root().clone();
            root.sets.insert((*role).to_owned(), KeySet { keys: vec![key], threshold: 1, signing: 1 });
            repository.roots.push(root);
            match *role {
                "timestamp" => repository.timestamp.0 = 1,
                _ => repository.snapshot.0 = 1,
            }
        }
        if both {
            self.features.insert("recovery-of-snapshot");
        }
    }

    fn names(&mut self, first: &Repository, second: &Repository) -> Vec<String> {
        let listed: BTreeSet<String> = [first, second]
            .iter()
            .flat_map(|repository| repository.roles.values())
            .flat_map(|role| role.targets.keys().cloned())
            .collect();
        let listed: Vec<String> = listed.into_iter().collect();
        let mut names: BTreeSet<String> = self.random.some(&listed, 5).into_iter().collect();
        names.extend(self.random.some(&self.all_names.clone(), 2));
        names.into_iter().collect()
    }
}

/// True if `paths` cover `name`.
pub(super) fn covers(paths: &Paths, name: &str) -> bool {
    match paths {
        Paths::Patterns(patterns) => patterns.iter().any(|pattern| matches(pattern, name)),
        Paths::HashPrefixes(prefixes) => {
            let hash = HEXLOWER.encode(digest(&SHA256, name.as_bytes()).as_ref());
            prefixes.iter().any(|prefix| !prefix.is_empty() && hash.starts_with(prefix.as_str()))
        }
    }
}

fn find_set(repository: &Repository, name: &str) -> Option<KeySet> {
    let mut children = repository.roles.values().flat_map(|role| &role.children);
    children.find(|child| child.name == name).map(|child| child.set.clone())
}
