//! What a configuration may say, and how each wrong one is told.

use chrono::TimeDelta;

use super::*;

fn resolve(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plimsolld.toml");
    std::fs::write(&file, text).unwrap();
    Config::resolve_in(Some(&file), &Overrides::default(), |name| (name == "HOME").then(|| "/home/x".into()))
}

/// The error's whole text without the folder's name.
fn refused(text: &str) -> String {
    let error = anyhow::Error::from(resolve(text).unwrap_err());
    let text = format!("{error:#}");
    text[text.find("plimsolld.toml").unwrap()..].to_owned()
}

fn flags(trusts: &[&str]) -> Overrides {
    Overrides { trusts: trusts.iter().map(|t| t.parse().unwrap()).collect(), ..Overrides::default() }
}

#[test]
fn an_empty_file_is_the_same_as_none() {
    let config = resolve("").unwrap();
    assert_eq!(config.data, Path::new("/home/x/.local/share/plimsolld"));
    assert_eq!(config.listen, "127.0.0.1:8480".parse().unwrap());
    assert_eq!(config.registry, RegistryAccess::default());
    assert_eq!(config.freshness.timestamp_validity, TimeDelta::hours(24));
    assert_eq!((config.trusts, config.implied), (vec![TrustConfig::embedded("main")], true));
    assert!(!resolve("[[trust]]\nname = \"main\"\n").unwrap().implied);
    let given = Config::resolve_in(None, &flags(&["main"]), |_| Some("/home/x".into())).unwrap();
    assert!(!given.implied);
    let Quota { roles, bytes, publishes_per_minute } = config.quota;
    assert_eq!((roles, bytes, publishes_per_minute), (1000, 64 << 20, 600));
}

#[test]
fn a_quota_is_strict() {
    for (line, wrong) in [
        ("roles = 0", "0 is not between 1 and 20000"),
        ("roles = 20001", "20001 is not between 1 and 20000"),
        ("roles = -1", "-1 is not between"),
        ("roles = \"5\"", "invalid type"),
        ("bytes = 5", "invalid type"),
        ("bytes = \"5MB\"", "`5MB` is not a size"),
        ("publishes-per-minute = 0", "0 is not between 1 and 1000000"),
        ("publishes-per-minute = 4294967296", "is not between 1 and 1000000"),
        ("publishes = 1", "unknown field"),
    ] {
        let told = refused(&format!("[quota]\n{line}\n"));
        assert!(told.starts_with("plimsolld.toml:2: "), "{told}");
        assert!(told.contains(wrong), "{told}");
    }
}

#[test]
fn every_key_is_read_and_paths_start_at_the_files_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plimsolld.toml");
    let text = r#"
data = "data"
listen = "[::1]:0"
log = "info,plimsoll_server=debug"

[registry]
ca-file = "ca.pem"
plain-http = true
certs-dir = "/certs"

[api]
submit = "anyone"
tokens = "credential:tokens"

[freshness]
timestamp-validity = "3s"
timestamp-interval = "1s"
timestamp-jitter = "0s"
snapshot-validity = "2d"
snapshot-interval = "20h"
snapshot-jitter = "90m"

[quota]
roles = 5
bytes = "3MiB"
publishes-per-minute = 7

[[trust]]
name = "acme"
repository = "registry.example.com:5000/acme/trust"
username = "robot"
password-file = "secret"
profile = "oci-1.0"
inbox = "10s"
allow-example-keys = true

[[trust]]
name = "b-2"
"#;
    std::fs::write(&file, text).unwrap();
    let config = Config::resolve_in(Some(&file), &Overrides::default(), |_| None).unwrap();
    assert_eq!(config.data, folder.path().join("data"));
    assert_eq!(config.listen, "[::1]:0".parse().unwrap());
    assert_eq!(config.log.as_deref(), Some("info,plimsoll_server=debug"));
    let registry = RegistryAccess {
        ca_file: Some(folder.path().join("ca.pem")),
        plain_http: true,
        certs_dir: Some("/certs".into()),
    };
    assert_eq!(config.registry, registry);
    let tokens = Some(SecretFile::Credential("tokens".to_owned()));
    assert_eq!(config.api, ApiConfig { submit: Some(Submit::Anyone), tokens });
    assert_eq!(config.freshness.timestamp_validity, TimeDelta::seconds(3));
    assert_eq!(config.freshness.timestamp_interval, TimeDelta::seconds(1));
    assert_eq!(config.freshness.timestamp_jitter, Some(TimeDelta::zero()));
    assert_eq!(config.freshness.snapshot_validity, TimeDelta::days(2));
    assert_eq!(config.freshness.snapshot_interval, Some(TimeDelta::hours(20)));
    assert_eq!(config.freshness.snapshot_jitter, Some(TimeDelta::minutes(90)));
    assert_eq!(config.quota, Quota { roles: 5, bytes: 3 << 20, publishes_per_minute: 7 });
    let acme = TrustConfig {
        name: "acme".to_owned(),
        repository: "registry.example.com:5000/acme/trust".parse().ok(),
        login: Some(Login {
            username: "robot".to_owned(),
            password_file: folder.path().join("secret").into(),
        }),
        profile: Profile::Oci10,
        inbox: Some(Duration::from_secs(10)),
        allow_example_keys: true,
    };
    assert_eq!(config.trusts, [acme, TrustConfig::embedded("b-2")]);
}

/// What is shown is a file that means the same, and says nothing that is secret.
#[test]
fn what_is_shown_of_a_configuration_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    for text in [
        String::new(),
        format!(
            r#"
listen = "[::1]:0"
log = "debug"
[registry]
ca-file = "/ca.pem"
plain-http = true
certs-dir = "/certs"
[freshness]
timestamp-validity = "90s"
timestamp-interval = "10s"
timestamp-jitter = "0s"
snapshot-validity = "2d"
snapshot-interval = "20h"
snapshot-jitter = "90m"
[[trust]]
name = "acme"
repository = "registry.example.com:5000/acme/trust"
username = "robot"
password-file = "{}"
profile = "oci-1.0"
inbox = "10s"
allow-example-keys = true
[[trust]]
name = "b-2"
"#,
            secret.display()
        ),
    ] {
        let config = resolve(&text).unwrap();
        let shown = Shown::new(&config);
        let text = toml::to_string(&shown).unwrap();
        let again = resolve(&text).unwrap();
        assert_eq!(Shown::new(&again), shown, "{text}");
        assert_eq!((again.data, again.listen, again.log), (config.data, config.listen, config.log));
        assert_eq!((again.registry, again.trusts), (config.registry, config.trusts));
        assert_eq!(again.freshness.timestamp(), config.freshness.timestamp());
        assert_eq!(again.freshness.snapshot(), config.freshness.snapshot());
        let json = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("hunter2") && !json.contains("hunter2"));
    }
    let shown = serde_json::to_value(Shown::new(&resolve("").unwrap())).unwrap();
    let expected = serde_json::json!({
        "timestamp-validity": "1d", "timestamp-interval": "1h", "timestamp-jitter": "6m",
        "snapshot-validity": "7d", "snapshot-interval": "84h", "snapshot-jitter": "504m",
    });
    assert_eq!(shown["freshness"], expected);
}

#[test]
fn a_wrong_file_is_told_with_line_and_key() {
    for (text, expected) in [
        ("x = 1", "plimsolld.toml:1: `x`: unknown field `x`"),
        ("\nlisten = 8480", "plimsolld.toml:2: `listen`: invalid type: integer `8480`"),
        ("listen = \"localhost:1\"", "plimsolld.toml:1: `listen`: `localhost:1` is not an IP address"),
        ("data = \"\"", "plimsolld.toml:1: `data`: it is empty"),
        ("\nlog = \"a=b=c\"", "plimsolld.toml:2: `log`: not what is to be logged, as `info` or"),
        ("data = ", "plimsolld.toml:1: `data`: "),
        ("data = \"a\"\ndata = \"b\"", "plimsolld.toml:2: `data`: duplicate key"),
        (
            "freshness = [\"1h\"]",
            "plimsolld.toml:1: `freshness`: invalid type: sequence, expected members by name",
        ),
        ("\ntls = [\"a.pem\", \"b.key\"]", "plimsolld.toml:2: `tls`: invalid type: sequence"),
        ("trust = [[\"a\"]]", "plimsolld.toml:1: `trust`: invalid type: sequence"),
        ("[registry]\ninsecure = true", "plimsolld.toml:2: `insecure`: unknown field `insecure`"),
        ("[registry]\nplain-http = \"yes\"", "plimsolld.toml:2: `plain-http`: invalid type"),
        (
            "[freshness]\n\ntimestamp-validity = \"1 day\"",
            "plimsolld.toml:3: `freshness.timestamp-validity`: `1 day`",
        ),
        (
            "[freshness]\ntimestamp-interval = \"25h\"",
            "plimsolld.toml:2: `freshness`: timestamp-interval must be at least 1 s and at most half of timestamp-validity",
        ),
        (
            "[freshness]\nsnapshot-interval = \"4d\"",
            "plimsolld.toml:2: `freshness`: snapshot-interval must be",
        ),
        (
            "[freshness]\nsnapshot-validity = \"8d\"",
            "plimsolld.toml:2: `freshness`: snapshot-validity must be",
        ),
        (
            "[freshness]\ntimestamp-jitter = \"31m\"",
            "plimsolld.toml:2: `freshness`: timestamp-jitter must be",
        ),
        ("[freshness]\nsnapshot-jitter = \"x\"", "plimsolld.toml:2: `freshness.snapshot-jitter`: `x` is not"),
        (
            "[freshness]\ntimestamp-validity = \"0s\"",
            "plimsolld.toml:2: `freshness.timestamp-validity`: `0s`",
        ),
        ("[freshness]\njitter = \"1s\"", "plimsolld.toml:2: `jitter`: unknown field `jitter`"),
        ("[api]\n\nsubmit = \"all\"", "plimsolld.toml:3: `api.submit`: `all` is not who may submit"),
        ("[api]\ntokens = \"credential:../x\"", "plimsolld.toml:2: `api.tokens`: `credential:../x` names no"),
        ("[api]\ntoken = \"x\"", "plimsolld.toml:2: `token`: unknown field"),
        ("\n[tls]\nkey = \"k\"", "plimsolld.toml:2: `tls`: `certificate` and `key` belong together"),
        ("[tls]\nkey = \"\"", "plimsolld.toml:2: `tls.key`: it is empty"),
        (
            "\n[tls]\ncertificate = \"c\"\nkey = \"k\"",
            "plimsolld.toml:2: `tls`: trust repository main is on the embedded registry",
        ),
        ("[trust]\nname = \"a\"", "plimsolld.toml:1: "),
        ("[[trust]]", "plimsolld.toml:1: missing field `name`"),
        ("[[trust]]\nname = \"A\"", "plimsolld.toml:2: `trust.name`: `A` is not a name"),
        ("[[trust]]\nname = \"../x\"", "plimsolld.toml:2: `trust.name`: `../x` is not a name"),
        ("[[trust]]\nname = \"\"", "plimsolld.toml:2: `trust.name`: `` is not a name"),
        ("[[trust]]\nname = \"-a\"", "plimsolld.toml:2: `trust.name`: `-a` is not a name"),
        (
            "[[trust]]\nname = \"a\"\nrepository = \"r.io/A\"",
            "plimsolld.toml:3: `trust.repository`: not HOST/REPOSITORY: `r.io/A`",
        ),
        ("[[trust]]\nname = \"a\"\nrepository = \"r.io/a:v1\"", "plimsolld.toml:3: `trust.repository`: "),
        (
            "[[trust]]\nname = \"a\"\nprofile = \"oci\"",
            "plimsolld.toml:3: `trust.profile`: `oci` is not a profile",
        ),
        (
            "[[trust]]\nname = \"a\"\nrepository = \"r.io/a\"\ninbox = true",
            "plimsolld.toml:4: `inbox`: invalid type",
        ),
        (
            "[[trust]]\nname = \"a\"\nrepository = \"r.io/a\"\ninbox = \"0s\"",
            "plimsolld.toml:4: `trust.inbox`: `0s` is not a duration",
        ),
        ("[[trust]]\nname = \"a\"\ninbox = \"10s\"", "plimsolld.toml:3: `trust.inbox`: the embedded"),
        (
            "[[trust]]\nname = \"a\"\nrepository = \"r.io/a\"\nusername = \"x\"",
            "plimsolld.toml:1: `trust.username`: `username` and",
        ),
        (
            "[[trust]]\nname = \"a\"\nusername = \"x\"\npassword-file = \"p\"",
            "plimsolld.toml:1: `trust.username`: the embedded",
        ),
        (
            "[[trust]]\nname = \"a\"\n[[trust]]\nname = \"a\"",
            "plimsolld.toml:3: `trust`: there are two trust repositories called `a`",
        ),
        (
            "[[trust]]\nname = \"a\"\nrepository = \"r.io/t\"\n[[trust]]\nname = \"b\"\nrepository = \"r.io/t\"",
            "plimsolld.toml:4: `trust`: r.io/t is the repository of two",
        ),
    ] {
        let told = refused(text);
        assert!(told.starts_with(expected), "{text}\n  told: {told}\n  not:  {expected}");
        assert!(!told.contains('\n'), "{told}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no.toml");
    let resolve = |path: &Path| Config::resolve_in(Some(path), &Overrides::default(), |_| None);
    assert!(matches!(resolve(&missing), Err(ConfigError::Unreadable { path, .. }) if path == missing));
    assert!(matches!(resolve(folder.path()), Err(ConfigError::Unreadable { .. })));
    let big = folder.path().join("big.toml");
    std::fs::write(&big, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(matches!(resolve(&big), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plimsolld.toml");
    let text = r#"
data = "/a"
listen = "127.0.0.1:1"
[[trust]]
name = "a"
repository = "r.io/a"
profile = "oci-1.0"
[[trust]]
name = "b"
"#;
    std::fs::write(&file, text).unwrap();
    let overrides = Overrides {
        data: Some("/b".into()),
        listen: "127.0.0.1:2".parse().ok(),
        ..flags(&["a=r.io/other", "c"])
    };
    let config = Config::resolve_in(Some(&file), &overrides, |_| None).unwrap();
    assert_eq!((config.data, config.listen), ("/b".into(), "127.0.0.1:2".parse().unwrap()));
    let a = TrustConfig {
        repository: "r.io/other".parse().ok(),
        profile: Profile::Oci10,
        ..TrustConfig::embedded("a")
    };
    assert_eq!(config.trusts, [a, TrustConfig::embedded("c")]);
    let kept = Config::resolve_in(Some(&file), &flags(&["a"]), |_| None).unwrap();
    assert_eq!(kept.trusts[0].repository, "r.io/a".parse().ok());
}

#[test]
fn wrong_flags_are_told() {
    for text in ["", "=r.io/a", "A", "a=", "a=r.io/A", "a=r.io/a:v1"] {
        assert!(text.parse::<TrustArgument>().is_err(), "{text}");
    }
    let twice = Config::resolve_in(None, &flags(&["a", "a"]), |_| Some("/x".into()));
    let place = Place::Flag("--trust");
    assert!(
        matches!(&twice, Err(ConfigError::Value { place: p, source: ValueError::NameTwice(_) }) if *p == place)
    );
}

#[test]
fn the_data_folder_is_found_as_documented() {
    let find = |set: &[(&str, &str)]| {
        default_data(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    };
    let all = [("PLIMSOLLD_DATA", "/d"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
    assert_eq!(find(&all), Some("/d".into()));
    assert_eq!(find(&all[1..]), Some("/x/plimsolld".into()));
    assert_eq!(find(&all[2..]), Some("/h/.local/share/plimsolld".into()));
    assert_eq!(find(&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")]), find(&all[2..]));
    assert_eq!(find(&[]), None);
    let none = Config::resolve_in(None, &Overrides::default(), |_| None);
    assert!(matches!(none, Err(ConfigError::NoData)));
}

#[test]
fn certificate_and_key_are_paths_or_credentials() {
    let text = "[tls]\ncertificate = \"tls/a.crt\"\nkey = \"credential:tls.key\"\n[[trust]]\nname = \"a\"\n\
                repository = \"r.io/a\"";
    let tls = resolve(text).unwrap().tls.unwrap();
    assert!(matches!(tls.certificate, SecretFile::File(path) if path.ends_with("tls/a.crt")));
    assert_eq!(tls.key, SecretFile::Credential("tls.key".to_owned()));
}

/// Opened, it would wait for somebody to write.
#[test]
fn a_configuration_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plimsolld.toml");
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    for file in [file.as_path(), folder.path()] {
        let error = Config::resolve(Some(file), &Overrides::default()).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Unreadable { source, .. } if source.to_string() == "it is not a file")
        );
    }
}
