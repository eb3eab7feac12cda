//! The policy as a whole: what is read, what is refused and where, and which scope applies.

use proptest::prelude::*;

use super::*;
use crate::oci::{Digest, TargetName};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Three roots, on the lines 1 to 12.
fn roots() -> String {
    let root = |name: &str| {
        let sha256 = if name == "acme" { EMPTY.to_owned() } else { Digest::of(name.as_bytes()).hex() };
        format!(
            "[root.{name}]\nfile = \"{name}-root.json\"\nsha256 = \"{sha256}\"\nrepository = \"r.io/{name}/trust\"\n"
        )
    };
    ["acme", "us", "eu"].map(root).concat()
}

/// The policy with one scope whose keys besides `match` are `body`, from line 15.
fn with_scope(pattern: &str, body: &str) -> String {
    format!("{}[[scope]]\nmatch = \"{pattern}\"\n{body}\n", roots())
}

fn policy(patterns: &[&str]) -> Result<Policy, PolicyError> {
    let scopes: String = patterns
        .iter()
        .map(|s| format!("[[scope]]\nmatch = \"{s}\"\nrequire = {{ all = [\"acme\"] }}\n"))
        .collect();
    Policy::parse(&(roots() + &scopes))
}

fn selected<'a>(policy: &'a Policy, host: &str, name: &str) -> Option<&'a str> {
    policy.select(host, &name.parse().unwrap()).map(|scope| scope.pattern.as_str())
}

fn vouch(text: &str) -> Vouch {
    let policy = Policy::parse(text).unwrap();
    match &policy.scopes()[0].rule {
        Rule::Vouch(vouch) => (**vouch).clone(),
        other => panic!("{other:?}"),
    }
}

/// That `text` breaks a rule, and where.
macro_rules! refused {
    ($text:expr, $line:literal : $column:literal, $rule:pat) => {
        let text: &str = &$text;
        match Policy::parse(text) {
            Err(PolicyError { at: Some(at), rule: $rule, .. }) => {
                assert_eq!((at.line, at.column), ($line, $column), "{text}");
            }
            other => panic!("{other:?}\n{text}"),
        }
    };
}

#[test]
fn the_whole_format_is_read() {
    let inline = "{\"signed\": {}}";
    let text = format!(
        r#"
[root.acme]
file = "roots/acme-root.json"
sha256 = "{EMPTY}"
repository = ["r.io/acme/trust", "oci:exports/acme", "https://d.example.com/tuf/acme/metadata"]
floor = "acme.floor.json"

[root.us]
inline = '''{inline}'''
sha256 = "{0}"
repository = "r.io/us/trust"

[[scope]]
match = "r.io/acme/**"
require = {{ threshold = 1, of = ["acme", "us"] }}
map = {{ acme = "vendor/**" }}
pin = {{ acme = {{ role = "targets--net", keys = ["{EMPTY}", "{0}"] }} }}
fallback = {{ all = ["us"] }}
on-absent = "fallback"
digest-refs = "retained"
constraint = {{ tag = ">=1.2, <2" }}
max-signed-age = "90d"
max-staleness = "12h"
optional = ["acme"]
veto = ["us"]

[[scope]]
match = "r.io/acme/bad"
action = "deny"
reason = "known to be bad"

[[scope]]
match = "r.io/acme/old"
action = "allow-digest"
digests = ["sha256:{EMPTY}"]
until = "2027-01-31T12:00:00+01:00"
reason = "until it is signed"

[[remap]]
from = "mirror.local/hub"
to = "docker.io"

[profile.ci]
[[profile.ci.scope]]
match = "r.io/**"
require = {{ any = ["us", "acme"] }}
"#,
        Digest::of(inline.as_bytes()).hex()
    );
    let policy = Policy::parse(&text).unwrap();
    let file = PolicyFile::from_toml(&text).unwrap();
    for (text, format) in [(file.to_toml(), Format::Toml), (file.to_json(), Format::Json)] {
        assert_eq!(Policy::read(&text, format).unwrap(), policy, "{text}");
    }

    let acme = &policy.root["acme"];
    assert_eq!(acme.document, RootDocument::File("roots/acme-root.json".into()));
    assert_eq!(acme.places.len(), 3);
    assert_eq!(acme.places[1], Place::Layout("exports/acme".into()));
    assert_eq!(
        (acme.location(), acme.repository().unwrap().name.as_str()),
        ("r.io/acme/trust".into(), "acme/trust")
    );
    assert_eq!(acme.floor.as_deref(), Some("acme.floor.json".as_ref()));
    assert_eq!(policy.root["us"].document, RootDocument::Inline(inline.to_owned()));

    let rule = vouch(&text);
    assert_eq!(rule.require, Require::Threshold { threshold: 1, of: vec!["acme".into(), "us".into()] });
    assert_eq!(rule.fallback, Some(Require::All(vec!["us".into()])));
    assert_eq!(rule.map["acme"], Scope::Below("vendor".into()));
    assert_eq!((rule.pin["acme"].role.as_str(), rule.pin["acme"].keys.len()), ("targets--net", 2));
    assert_eq!(rule.digest_refs, DigestRefs::Retained);
    assert!(matches!(rule.constraint, Some(Constraint::Tag(_))));
    assert_eq!(rule.max_signed_age, Some(chrono::TimeDelta::days(90)));
    assert_eq!(rule.max_staleness, Some(chrono::TimeDelta::hours(12)));
    assert_eq!((rule.optional.len(), rule.veto.len(), rule.roots()), (1, 1, vec!["acme", "us"]));

    assert_eq!(policy.scopes()[1].rule, Rule::Deny { reason: "known to be bad".into() });
    let Rule::AllowDigest { digests, until, .. } = &policy.scopes()[2].rule else { panic!() };
    assert_eq!((digests.len(), until.to_rfc3339()), (1, "2027-01-31T11:00:00+00:00".to_owned()));

    assert_eq!(selected(&policy, "r.io", "other/x:v1"), None);
    let ci = policy.with_profile("ci").unwrap();
    assert_eq!(selected(&ci, "r.io", "other/x:v1"), Some("r.io/**"));
    assert_eq!(selected(&ci, "r.io", "acme/bad:v1"), Some("r.io/**"), "a profile replaces; nothing merges");
    let unknown = ci.with_profile("prod").unwrap_err();
    assert!(matches!(unknown.rule, PolicyRule::UnknownProfile { known, .. } if known == "ci"));
}

#[test]
fn what_is_left_out_has_the_strictest_meaning() {
    let rule = vouch(&with_scope("r.io/acme/**", "require = { all = [\"acme\", \"us\"] }"));
    assert_eq!(rule.digest_refs, DigestRefs::Current);
    assert_eq!((rule.fallback.is_none(), rule.optional.is_empty()), (true, true));
    assert_eq!(rule.veto.iter().collect::<Vec<_>>(), ["acme", "us"]);
    assert_eq!((rule.max_staleness, rule.max_signed_age), (None, None));
    assert_eq!(rule.needed(&rule.require), 2);
    let rule =
        vouch(&with_scope("r.io/acme/**", "require = { all = [\"acme\", \"us\"] }\noptional = [\"us\"]"));
    assert_eq!(rule.needed(&rule.require), 1);
    let rule = vouch(&with_scope(
        "r.io/**",
        "require = { any = [\"acme\", \"us\"] }\noptional = [\"us\", \"acme\"]",
    ));
    assert_eq!(rule.needed(&rule.require), 1, "nobody at all is never enough");
}

/// A policy that says less, or something else, than its author believes is not read at all.
#[test]
fn what_breaks_a_rule_is_refused_with_its_line_and_column() {
    let all = "require = { all = [\"acme\"] }";
    let scope = |body: &str| with_scope("r.io/acme/**", body);
    let matching = |pattern: &str| with_scope(pattern, all);

    // The shape.
    refused!("x", 1:2, PolicyRule::Shape { .. });
    refused!(roots() + "\nextra = 1", 14:1, PolicyRule::Shape { .. });
    refused!(scope("require = { all = [\"acme\"] }\nprioritty = 1"), 16:1, PolicyRule::Shape { .. });
    refused!(scope("require = { all = [\"acme\"], none = [] }"), 15:29, PolicyRule::Shape { .. });
    refused!(scope(&format!("{all}\nmatch = \"r.io/x\"")), 16:1, PolicyRule::Shape { .. });
    refused!(roots().replace("[root.us]", "[root.acme]"), 5:7, PolicyRule::Shape { .. });
    refused!(roots().replacen(&format!("sha256 = \"{EMPTY}\"\n"), "", 1), 1:1, PolicyRule::Shape { .. });
    refused!(scope("action = \"ignore\"\nreason = \"x\""), 15:10, PolicyRule::Shape { .. });
    refused!(scope(&format!("{all}\ndigest-refs = \"any\"")), 16:15, PolicyRule::Shape { .. });
    refused!(roots() + "[[scope]]\n" + all + "\n", 13:1, PolicyRule::Shape { .. });
    refused!(scope(all).replace("[[scope]]", "[scope]"), 13:1, PolicyRule::Shape { .. });

    // Roots.
    refused!(roots().replace("E3", "e3").replacen("e3b0", "E3B0", 1), 3:10, PolicyRule::Sha256);
    refused!(roots().replacen("file = ", "# file = ", 1), 1:1, PolicyRule::Document);
    refused!(roots().replacen("file = ", "inline = \"{}\"\nfile = ", 1), 1:1, PolicyRule::Document);
    refused!(roots().replacen("file = ", "inline = ", 1), 2:10, PolicyRule::InlineDigest { .. });
    refused!(roots().replacen("acme-root.json", "", 1), 2:8, PolicyRule::Document);
    refused!(roots().replacen("r.io/acme/trust", "r.io/{name}/trust", 1), 4:14, PolicyRule::Place(PlaceError::Braces { .. }));
    refused!(roots().replacen("\"r.io/acme/trust\"", "[\"r.io/a\", \"oci:{x}\"]", 1), 4:25, PolicyRule::Place(PlaceError::Braces { .. }));
    refused!(roots().replacen("r.io/acme/trust", "r.io/acme/trust:v1", 1), 4:14, PolicyRule::Place(PlaceError::Registry(_)));
    refused!(roots().replacen("\"r.io/acme/trust\"", "[]", 1), 4:14, PolicyRule::Empty);
    refused!(roots().replacen("\"r.io/acme/trust\"", "[\"r.io/a\", \"r.io/a\"]", 1), 4:25, PolicyRule::Twice { .. });
    refused!(roots().replacen("[root.acme]", "[root.ACME]", 1), 1:1, PolicyRule::Name { .. });

    // The match.
    refused!(matching("acme/**"), 14:9, PolicyRule::Host { .. });
    refused!(matching("r.io"), 14:9, PolicyRule::Host { .. });
    refused!(matching("index.docker.io/library/x"), 14:9, PolicyRule::HostAlias { .. });
    refused!(matching("R.io/x"), 14:9, PolicyRule::HostAlias { .. });
    let canonical = |rule: &PolicyRule| matches!(rule, PolicyRule::HostAlias { canonical, .. } if canonical == "[::1]:5000");
    let rule = Policy::parse(&matching("[0:0:0::1]:5000/x")).unwrap_err().rule;
    assert!(canonical(&rule), "{rule:?}");
    refused!(matching("r.io/acme/[a]"), 14:9, PolicyRule::Scope(_));
    refused!(matching("*/acme"), 14:9, PolicyRule::Host { .. });
    refused!(matching("r.io/acme/**") + "[[scope]]\nmatch = \"r.io/acme/**\"\n" + all, 17:9, PolicyRule::Equal { .. });

    // Who must vouch.
    refused!(scope(""), 13:1, PolicyRule::NoRequire);
    refused!(scope("require = {}"), 15:11, PolicyRule::RequireForm);
    refused!(scope("require = { all = [\"acme\"], any = [\"us\"] }"), 15:11, PolicyRule::RequireForm);
    refused!(scope("require = { threshold = 1 }"), 15:11, PolicyRule::RequireForm);
    refused!(scope("require = { of = [\"us\"] }"), 15:11, PolicyRule::RequireForm);
    refused!(scope("require = { all = [\"acme\"], threshold = 1 }"), 15:11, PolicyRule::RequireForm);
    refused!(scope("require = { threshold = 0, of = [\"us\"] }"), 15:25, PolicyRule::Threshold { .. });
    refused!(scope("require = { threshold = 3, of = [\"us\", \"eu\"] }"), 15:25, PolicyRule::Threshold { threshold: 3, of: 2 });
    refused!(scope("require = { threshold = 1, of = [] }"), 15:33, PolicyRule::Empty);
    refused!(scope("require = { all = [] }"), 15:19, PolicyRule::Empty);
    refused!(scope("require = { any = [] }"), 15:19, PolicyRule::Empty);
    refused!(scope("require = { all = [\"us\", \"us\"] }"), 15:26, PolicyRule::Twice { .. });
    refused!(scope("require = { threshold = 2, of = [\"us\", \"us\"] }"), 15:40, PolicyRule::Twice { .. });
    refused!(scope("require = { any = [\"us\", \"other\"] }"), 15:26, PolicyRule::UnknownRoot { .. });
    // One root under two names has one voice.
    let twin = |body: &str| scope(body).replace(&Digest::of(b"eu").hex(), &Digest::of(b"us").hex());
    refused!(twin("require = { all = [\"us\", \"acme\", \"eu\"] }"), 15:34, PolicyRule::SameRoot { .. });
    refused!(twin("require = { threshold = 2, of = [\"us\", \"eu\"] }"), 15:40, PolicyRule::SameRoot { .. });
    refused!(twin("require = { all = [\"acme\"] }\non-absent = \"fallback\"\nfallback = { any = [\"eu\", \"us\"] }"), 17:27, PolicyRule::SameRoot { .. });
    assert!(
        Policy::parse(&twin(
            "require = { all = [\"us\"] }\non-absent = \"fallback\"\nfallback = { any = [\"eu\"] }"
        ))
        .is_ok()
    );

    // The rest of a scope.
    let more = |line: &str| scope(&format!("{all}\n{line}"));
    refused!(more("fallback = { all = [\"us\"] }"), 16:12, PolicyRule::Fallback);
    refused!(more("on-absent = \"fallback\""), 16:13, PolicyRule::Fallback);
    refused!(more("on-absent = \"reject\"\nfallback = { all = [\"us\"] }"), 17:12, PolicyRule::Fallback);
    refused!(more("on-absent = \"fallback\"\nfallback = { all = [\"other\"] }"), 17:21, PolicyRule::UnknownRoot { .. });
    refused!(more("map = { us = \"x/**\" }"), 16:14, PolicyRule::NotRequired { .. });
    refused!(more("map = { other = \"x/**\" }"), 16:17, PolicyRule::UnknownRoot { .. });
    refused!(more("map = { acme = \"x/*\" }"), 16:16, PolicyRule::Map { .. });
    refused!(more("map = { acme = \"x/../**\" }"), 16:16, PolicyRule::Scope(_));
    refused!(more("pin = { us = { role = \"x\" } }"), 16:14, PolicyRule::NotRequired { .. });
    refused!(more("pin = { acme = { role = \"snapshot\" } }"), 16:25, PolicyRule::PinRole { .. });
    refused!(more("pin = { acme = { role = \"\" } }"), 16:25, PolicyRule::PinRole { .. });
    refused!(more("pin = { acme = { role = \"x\", keys = [] } }"), 16:37, PolicyRule::Empty);
    refused!(more("pin = { acme = { role = \"x\", keys = [\"e3b0c442\"] } }"), 16:38, PolicyRule::KeyId { .. });
    refused!(more("pin = { acme = { role = \"x\", keys = [\"KEY\", \"KEY\"] } }").replace("KEY", EMPTY), 16:106, PolicyRule::Twice { .. });
    // An id is whole, and a digest: any other one is of no key, and would refuse everything.
    refused!(more("pin = { acme = { role = \"x\", keys = [\"ours\"] } }"), 16:38, PolicyRule::KeyId { .. });
    refused!(more("pin = { acme = { role = \"x\", keys = [\"KEY\"] } }").replace("KEY", &EMPTY.to_uppercase()), 16:38, PolicyRule::KeyId { .. });
    refused!(more("pin = { acme = { keys = [\"k\"] } }"), 16:16, PolicyRule::Shape { .. });
    refused!(more("constraint = {}"), 16:14, PolicyRule::ConstraintForm);
    refused!(more("constraint = { tag = \"*\", custom-version = \"*\" }"), 16:14, PolicyRule::ConstraintForm);
    refused!(more("constraint = { tag = \"newest\" }"), 16:22, PolicyRule::Version { .. });
    refused!(more("max-signed-age = \"90\""), 16:18, PolicyRule::Duration(_));
    refused!(more("max-staleness = \"0d\""), 16:17, PolicyRule::Duration(_));
    refused!(more("optional = [\"us\"]"), 16:13, PolicyRule::NotRequired { .. });
    refused!(more("optional = [\"acme\"]"), 16:12, PolicyRule::AllOptional);
    refused!(more("veto = [\"us\"]"), 16:9, PolicyRule::NotRequired { .. });
    refused!(more("veto = []"), 16:8, PolicyRule::Empty);
    refused!(more("reason = \"x\""), 16:10, PolicyRule::Misplaced { key: "reason", .. });
    refused!(scope("require = { any = [\"us\"] }\noptional = [\"eu\"]\nfallback = { all = [\"eu\"] }\non-absent = \"fallback\""), 17:12, PolicyRule::AllOptional);

    // Actions.
    refused!(scope("action = \"deny\""), 15:10, PolicyRule::Needed { key: "reason" });
    refused!(scope("action = \"deny\"\nreason = \" \""), 15:10, PolicyRule::Needed { key: "reason" });
    refused!(scope(&format!("action = \"deny\"\nreason = \"x\"\n{all}")), 17:11, PolicyRule::Misplaced { key: "require", .. });
    refused!(scope("action = \"deny\"\nreason = \"x\"\nuntil = \"2027-01-01T00:00:00Z\""), 17:9, PolicyRule::Misplaced { key: "until", .. });
    let allowed = |rest: &str| scope(&format!("action = \"allow-digest\"\nreason = \"x\"\n{rest}"));
    let digest = format!("digests = [\"sha256:{EMPTY}\"]");
    refused!(allowed(&digest), 15:10, PolicyRule::Needed { key: "until" });
    refused!(allowed("until = \"2027-01-01T00:00:00Z\""), 15:10, PolicyRule::Needed { key: "digests" });
    refused!(allowed("digests = []\nuntil = \"2027-01-01T00:00:00Z\""), 17:11, PolicyRule::Empty);
    refused!(allowed("digests = [\"x\"]\nuntil = \"2027-01-01T00:00:00Z\""), 17:12, PolicyRule::Digest(_));
    refused!(allowed(&format!("{digest}\nuntil = \"2027-01-01\"")), 18:9, PolicyRule::Time { .. });

    // Remaps and profiles.
    let remap = |from: &str, to: &str| format!("[[remap]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    refused!(remap("mirror", "docker.io"), 2:8, PolicyRule::Host { .. });
    refused!(remap("m.io/A", "docker.io"), 2:8, PolicyRule::RemapPrefix { .. });
    refused!(remap("m.io/a/", "docker.io"), 2:8, PolicyRule::RemapPrefix { .. });
    refused!(remap("m.io/*", "docker.io"), 2:8, PolicyRule::RemapPrefix { .. });
    refused!(remap("m.io", "index.docker.io"), 3:6, PolicyRule::HostAlias { .. });
    refused!(remap("m.io", "m.io"), 2:8, PolicyRule::RemapTwice { .. });
    refused!(remap("m.io", "a.io") + &remap("m.io", "b.io"), 5:8, PolicyRule::RemapTwice { .. });
    refused!(roots() + "[profile.\"a b\"]\n", 13:1, PolicyRule::Name { .. });
    refused!(roots() + "[[profile.ci.scope]]\nmatch = \"r.io/x\"\nrequire = { all = [\"other\"] }\n", 15:20, PolicyRule::UnknownRoot { .. });
}

#[test]
fn json_is_held_to_the_same_rules_and_places_are_named_in_it_too() {
    let root = format!("{{\"file\": \"x\", \"sha256\": \"{EMPTY}\", \"repository\": \"r.io/acme/trust\"}}");
    let text = |scope: &str| {
        format!("{{\n  \"root\": {{\"acme\": {root}}},\n  \"scope\": [\n    {scope}\n  ]\n}}\n")
    };
    let good = text("{\"match\": \"r.io/acme/**\", \"require\": {\"all\": [\"acme\"]}}");
    assert_eq!(Policy::read(&good, Format::Json).unwrap().scopes().len(), 1);

    for (bad, line, column) in [
        (text("{\"match\": \"acme/**\", \"require\": {\"all\": [\"acme\"]}}"), 4, 15),
        (text("{\"match\": \"r.io/a]}\\\"\", \"require\": {\"all\": [\"acme\"]}}"), 4, 15),
        (text("{\"require\": {\"all\": [ \"acme\" ,  \"other\"]}, \"match\": \"r.io/x\"}"), 4, 37),
        (text("{\"match\": \"r.io/x\", \"require\": {\"all\": [\"acme\"], \"none\": []}}"), 4, 59),
        (text("{\"match\": \"r.io/x\", \"match\": \"r.io/y\"}"), 4, 31),
        (good.replace(EMPTY, "E3"), 2, 44),
        (good.replace("\"acme\": {", &format!("\"acme\": {root}, \"acme\": {{")), 2, 151),
        (good.replace("\"scope\"", "\"scopes\""), 3, 10),
        (good.replace("]\n}", "]\n"), 7, 1),
        ("{\"é\": 1}".to_owned(), 1, 4),
        (format!("{good}x"), 7, 1),
    ] {
        let error = Policy::read(&bad, Format::Json).unwrap_err();
        let at = error.at.unwrap();
        assert_eq!((at.line, at.column), (line, column), "{error}: {:?}\n{bad}", error.rule);
    }
}

/// Every key of every table.
const FULL: &str = r#"{
  "root": {
    "acme": {"file": "acme-root.json", "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
             "repository": ["r.io/acme/trust", "oci:exports/acme"], "floor": "acme.floor.json"},
    "us": {"inline": "{}", "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
           "repository": "r.io/us/trust"}
  },
  "scope": [
    {"match": "r.io/acme/**", "require": {"threshold": 1, "of": ["acme", "us"]}, "map": {"acme": "vendor/**"},
     "pin": {"acme": {"role": "targets--net"}}, "on-absent": "fallback", "fallback": {"all": ["us"]},
     "digest-refs": "retained", "constraint": {"tag": ">=1"}, "max-signed-age": "90d", "max-staleness": "7d",
     "optional": ["acme"], "veto": ["us"]},
    {"match": "r.io/old/**", "action": "deny", "reason": "gone"}
  ],
  "remap": [{"from": "m.io", "to": "r.io/acme"}],
  "profile": {"ci": {"scope": [{"match": "r.io/acme/*", "require": {"any": ["us"]}}]}}
}"#;

/// The table at `path` as a list of its values, and as a list of itself.
fn as_lists(table: &serde_json::Value) -> [serde_json::Value; 2] {
    let values = table.as_object().unwrap().values().cloned().collect();
    [serde_json::Value::Array(values), serde_json::Value::Array(vec![table.clone()])]
}

/// Where the tables are in `value`.
fn tables(value: &serde_json::Value, path: &str) -> Vec<String> {
    match value {
        serde_json::Value::Object(members) => {
            let inside = members.iter().flat_map(|(key, member)| tables(member, &format!("{path}/{key}")));
            std::iter::once(path.to_owned()).chain(inside).collect()
        }
        serde_json::Value::Array(items) => (0..)
            .zip(items)
            .flat_map(|(at, item): (usize, _)| tables(item, &format!("{path}/{at}")))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whichever table it is, in either format: no list stands for one, and the place is told.
#[test]
fn a_list_is_no_table_wherever_it_stands() {
    Policy::read(FULL, Format::Json).unwrap();
    let full: serde_json::Value = serde_json::from_str(FULL).unwrap();
    let paths = tables(&full, "");
    assert_eq!(paths.len(), 17, "{paths:?}");
    for path in &paths {
        for list in as_lists(full.pointer(path).unwrap()) {
            let mut wrong = full.clone();
            *wrong.pointer_mut(path).unwrap() = list;
            let json = serde_json::to_string_pretty(&wrong).unwrap();
            let found = Policy::read(&json, Format::Json);
            assert!(matches!(found, Err(PolicyError { at: Some(_), .. })), "{path}: {found:?}\n{json}");
            if !path.is_empty() {
                let toml = toml::to_string(&wrong).unwrap();
                let found = Policy::parse(&toml);
                assert!(matches!(found, Err(PolicyError { at: Some(_), .. })), "{path}: {found:?}\n{toml}");
            }
        }
    }
}

#[test]
fn a_value_of_another_kind_is_refused_where_it_stands() {
    let shape = |text: &str, format: Format| match Policy::read(text, format) {
        Err(PolicyError { at: Some(at), rule: PolicyRule::Shape { message }, .. }) => {
            (at.line, at.column, message)
        }
        other => panic!("{other:?}\n{text}"),
    };
    let (line, column, words) =
        shape(&(roots() + "[[scope]]\nmatch = \"r.io/a\"\nrequire = [[\"acme\"]]\n"), Format::Toml);
    assert_eq!((line, column), (15, 11), "{words}");
    assert!(words.contains("sequence, expected members by name"), "{words}");
    let (line, column, _) =
        shape(&("scope = [[\"r.io/a\", \"deny\", \"x\"]]\n".to_owned() + &roots()), Format::Toml);
    assert_eq!((line, column), (1, 10));
    for (text, place) in [("[]", (1, 2)), ("\n[{}, [], [], {}]", (2, 1))] {
        let (line, column, _) = shape(text, Format::Json);
        assert_eq!((line, column), place, "{text}");
    }
    let deny = with_scope("r.io/a", "action = { deny = {} }\nreason = \"x\"");
    assert_eq!(shape(&deny, Format::Toml).0, 15);
}

#[test]
fn an_error_tells_the_place_the_key_and_the_rule() {
    let text = with_scope("r.io/acme/**", "require = { all = [\"acme\"] }\npin = { acme = { role = \"\" } }");
    let error = Policy::parse(&text).unwrap_err();
    assert_eq!(error.to_string(), "line 16, column 25: [[scope]] r.io/acme/** pin.acme.role");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "`` is no role that lies on the path to a name");
    let shape = Policy::parse("extra = 1").unwrap_err();
    assert_eq!(shape.to_string(), "line 1, column 1");
    assert!(std::error::Error::source(&shape).unwrap().to_string().contains("unknown field `extra`"));
}

#[test]
fn a_root_is_named_so_that_it_can_be_a_file() {
    let named = |name: &str| Policy::parse(&roots().replacen("root.acme", &format!("root.\"{name}\""), 1));
    for good in ["a", "0-9_z", "_", &"a".repeat(64)] {
        assert!(named(good).unwrap().root.contains_key(good), "{good}");
    }
    for bad in ["", "-a", "A", "a b", "a/b", "..", "é", "a:b", &"a".repeat(65)] {
        let rule = named(bad).unwrap_err().rule;
        assert!(matches!(rule, PolicyRule::Name { name } if name == bad), "{bad}");
    }
}

#[test]
fn the_most_specific_scope_applies_whatever_the_order() {
    let scopes = ["r.io/acme/app", "r.io/acme/**", "r.io/acme/*", "r.io/acme/app:v*", "r.io/acme/app:v1*"];
    for scopes in [scopes.to_vec(), scopes.iter().rev().copied().collect()] {
        let policy = policy(&scopes).unwrap();
        for (name, pattern) in [
            ("acme/app:v1", Some("r.io/acme/app:v1*")),
            ("acme/app:v2", Some("r.io/acme/app:v*")),
            ("acme/app:x", Some("r.io/acme/app")),
            (&format!("acme/app@sha256:{EMPTY}"), Some("r.io/acme/app")),
            ("acme/other:x", Some("r.io/acme/*")),
            ("acme/a/b:x", Some("r.io/acme/**")),
            ("a/b/c/d/e/f/g/h/i:x", None),
            ("acme/2/3/4/5/6/7/8:x", Some("r.io/acme/**")),
            ("acme/2/3/4/5/6/7/8/9:x", None),
            ("acme:x", None),
            ("other/app:v1", None),
        ] {
            assert_eq!(selected(&policy, "r.io", name), pattern, "{name}");
        }
        assert_eq!(selected(&policy, "other.io", "acme/app:v1"), None);
    }
}

#[test]
fn two_scopes_that_could_both_apply_are_refused() {
    for (first, second) in [
        ("r.io/acme/**", "r.io/acme/**"),
        ("r.io/acme/*", "r.io/acme/*"),
        ("r.io/acme/a", "r.io/acme/a"),
        ("r.io/**", "r.io/**"),
        ("r.io/a:v1", "r.io/a:v1"),
        ("r.io/a:v*", "r.io/a:*1"),
        ("r.io/a:v1", "r.io/a:v*"),
        ("r.io/a:v*1", "r.io/a:v*1"),
        ("r.io/a:v*x", "r.io/a:vy*"),
        ("r.io/a:*a*", "r.io/a:*b*"),
    ] {
        for (first, second) in [(first, second), (second, first)] {
            let error = policy(&["r.io/other/**", first, "r.io/a:wwww*", second]).unwrap_err();
            assert!(matches!(&error.rule, PolicyRule::Equal { other } if other == first), "{first} {second}");
            assert_eq!(error.at.unwrap().line, 23, "{first} {second}");
        }
    }
    policy(&["r.io/acme/a:v1", "r.io/acme/a:v2", "r.io/acme/b:v1", "s.io/acme/a:v1", "r.io/acme/a:v2*"])
        .unwrap();
    policy(&["r.io/a:v*1", "r.io/a:v*2", "r.io/a:w*1", "r.io/a:*x3"]).unwrap();
}

#[test]
fn a_name_is_exchanged_for_what_a_root_calls_it() {
    let digest = format!("sha256:{EMPTY}");
    for (pattern, map, name, inside) in [
        ("r.io/acme/**", "vendor/**", "acme/a/b:v1", Some("vendor/a/b:v1")),
        ("r.io/acme/**", "**", "acme/a/b:v1", Some("a/b:v1")),
        ("r.io/**", "vendor/x/**", "a:v1", Some("vendor/x/a:v1")),
        ("r.io/**", "**", "a:v1", Some("a:v1")),
        ("r.io/acme/*", "vendor/*", "acme/a:v1", Some("vendor/a:v1")),
        ("r.io/*", "vendor/*", "a:v1", Some("vendor/a:v1")),
        ("r.io/acme/app", "monitor", "acme/app:v1", Some("monitor:v1")),
        ("r.io/acme/app:v*", "w/monitor:v*", "acme/app:v1", Some("w/monitor:v1")),
        ("r.io/acme/app", "w/monitor", &format!("acme/app@{digest}"), Some(&format!("w/monitor@{digest}"))),
        ("r.io/acme/**", "vendor/**", "acme-2/a:v1", None),
        ("r.io/**", "vendor/**", &format!("{}:v1", "a".repeat(250)), None),
    ] {
        let text = with_scope(
            pattern,
            &format!("require = {{ all = [\"acme\", \"us\"] }}\nmap = {{ acme = \"{map}\" }}"),
        );
        let policy = Policy::parse(&text).unwrap();
        let name: TargetName = name.parse().unwrap();
        let scope = &policy.scopes()[0];
        assert_eq!(
            scope.name_in("acme", &name).map(|n| n.to_string()).as_deref(),
            inside,
            "{pattern} {name}"
        );
        assert_eq!(scope.name_in("us", &name), Some(name));
    }
}

#[test]
fn the_longest_remap_applies_once_and_to_whole_segments() {
    let remaps = [
        ("m.io", "one.io"),
        ("m.io/hub", "docker.io"),
        ("m.io/hub/library/nginx", "r.io/web/nginx"),
        ("one.io", "two.io"),
    ];
    let text: String =
        remaps.iter().map(|(from, to)| format!("[[remap]]\nfrom = \"{from}\"\nto = \"{to}\"\n")).collect();
    let policy = Policy::parse(&text).unwrap();
    for (from, to) in [
        ("m.io/a", "one.io/a"),
        ("m.io/hubble/a", "one.io/hubble/a"),
        ("m.io/hub/acme/x", "docker.io/acme/x"),
        ("m.io/hub/nginx", "docker.io/library/nginx"),
        ("m.io/hub/library/nginx", "r.io/web/nginx"),
        ("m.io/hub/library/nginx/debug", "r.io/web/nginx/debug"),
        ("m.io/hub/library/nginx2", "docker.io/library/nginx2"),
        ("one.io/a", "two.io/a"),
        ("m.io:5000/a", "m.io:5000/a"),
        ("am.io/a", "am.io/a"),
    ] {
        assert_eq!(policy.identity(&from.parse().unwrap()).unwrap().to_string(), to, "{from}");
    }
    // A host alone is no repository: there is no identity, and no shorter remap steps in.
    assert_eq!(policy.identity(&"m.io/hub".parse().unwrap()), None);
    let long = format!("m.io/hub/library/nginx/{}", "a".repeat(232)).parse().unwrap();
    assert_eq!(policy.identity(&long).map(|identity| identity.name.len()), Some(242));
    let text = "[[remap]]\nfrom = \"m.io\"\nto = \"r.io/x\"\n";
    let long = format!("m.io/{}", "a".repeat(255)).parse().unwrap();
    assert_eq!(Policy::parse(text).unwrap().identity(&long), None);
}

#[test]
fn a_constraint_admits_semantic_versions_only() {
    for (text, full) in
        [("1.2.3", true), ("v1.2.3-rc.1", true), ("v1", false), ("1.2", false), ("latest", false)]
    {
        assert_eq!(Constraint::is_version(text), full, "{text}");
    }
    let tag = |requirement: &str| Constraint::Tag(requirement.parse().unwrap());
    for (requirement, text, admitted) in [
        (">=1.2, <2", "1.2.0", true),
        (">=1.2, <2", "v1.9.3", true),
        (">=1.2, <2", "2.0.0", false),
        (">=1.2, <2", "1.1.9", false),
        (">=1.2, <2", "1.3.0-rc.1", false),
        (">=1.2.0-rc.1, <2", "1.2.0-rc.2", true),
        ("^1.2", "1.10.0", true),
        ("*", "latest", false),
        ("*", "1.2", false),
        ("*", "vv1.2.3", false),
        ("*", "V1.2.3", false),
        ("*", "", false),
        ("*", "01.2.3", false),
    ] {
        assert_eq!(tag(requirement).admits(text), admitted, "{text} in {requirement}");
    }
}

#[test]
fn a_place_in_a_text_is_told_in_characters() {
    let text = "a = \"é\"\nb = \"\u{1f600}\" # x\n";
    let position = |offset| {
        let at = locate::position(text, offset);
        (at.line, at.column)
    };
    assert_eq!(position(0), (1, 1));
    assert_eq!(position(text.find('b').unwrap()), (2, 1));
    assert_eq!(position(text.find('#').unwrap()), (2, 9));
    assert_eq!(position(usize::MAX), (3, 1));
}

/// Scopes that overlap much.
const PATTERN: &str = "(\\*|\\*\\*|[ab](/[ab]){0,2}(/\\*|/\\*\\*|:[ab*]{1,3}|))";

proptest! {
    /// Exactly one scope applies: the greatest of all that cover the name, or the policy is refused.
    #[test]
    fn the_scope_that_applies_is_the_greatest_that_covers(
        patterns in proptest::collection::vec((prop_oneof![Just("r.io"), Just("s.io")], PATTERN), 1..24),
        names in proptest::collection::vec("[ab](/[ab]){0,3}:[ab]{1,3}", 12),
    ) {
        let mut kept: Vec<String> = Vec::new();
        for (host, pattern) in &patterns {
            let pattern = format!("{host}/{pattern}");
            let more: Vec<&str> = kept.iter().map(String::as_str).chain([pattern.as_str()]).collect();
            // Refused exactly if it is as specific as one before it and overlaps with it, by the rule for two scopes.
            let (own_host, own) = pattern.split_once('/').unwrap();
            let own: Scope = own.parse().unwrap();
            let equal = kept.iter().any(|known| {
                let (host, known) = known.split_once('/').unwrap();
                let known: Scope = known.parse().unwrap();
                host == own_host && known.specificity() == own.specificity() && known.overlaps(&own)
            });
            match policy(&more) {
                Ok(_) => { prop_assert!(!equal, "{more:?}"); kept.push(pattern); }
                Err(error) => prop_assert!(equal && matches!(error.rule, PolicyRule::Equal { .. }), "{error:?} {more:?}"),
            }
        }
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        let policy = policy(&kept).unwrap();
        let digests = names.iter().map(|name| format!("{}@sha256:{EMPTY}", name.split(':').next().unwrap()));
        for name in names.iter().cloned().chain(digests) {
            let naive = policy
                .scopes()
                .iter()
                .filter(|entry| entry.host == "r.io" && entry.scope.covers(&name))
                .max_by_key(|entry| entry.scope.specificity())
                .map(|entry| entry.pattern.as_str());
            prop_assert_eq!(selected(&policy, "r.io", &name), naive, "{} in {:?}", name, kept);
        }
    }

    /// What a root calls a name has the same end, lies in the mapped scope, and is exchanged back to the name.
    #[test]
    fn an_exchange_can_be_taken_back(
        from in "[ab](/[ab]){0,1}",
        to in "[ab](/[ab]){0,1}",
        form in prop_oneof![Just(""), Just("/*"), Just("/**"), Just(":a*")],
        name in "[ab](/[ab]){0,3}:[ab]{1,3}",
    ) {
        let (from, to): (Scope, Scope) = (format!("{from}{form}").parse().unwrap(), format!("{to}{form}").parse().unwrap());
        if let Some(exchanged) = from.exchange(&to, &name) {
            prop_assert!(to.covers(&exchanged));
            prop_assert_eq!(to.exchange(&from, &exchanged), Some(name));
        } else {
            prop_assert!(!from.covers(&name));
        }
    }
}
