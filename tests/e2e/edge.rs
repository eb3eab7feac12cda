//! The daemon's edge, with the real programs: TLS and its certificates, reloading, systemd's notifications, tokens.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use plimsoll_tests::{
    docker_registry::{Access, Registry},
    http,
    process::{Cli, Run, Service, binary, run},
    tls::Authority,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A daemon that is reached in another way than the other tests reach theirs.
struct Edge {
    folder: TempDir,
    service: Service,
    address: SocketAddr,
}

impl Edge {
    /// `plimsolld serve` with `config` and the environment `variables`, once it listens.
    fn start(config: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, config, variables)
    }

    fn start_in(folder: TempDir, config: &str, variables: &[(&str, &str)]) -> Self {
        let file = folder.path().join("plimsolld.toml");
        fs::write(&file, config).unwrap();
        let mut command = daemon(folder.path());
        command.arg("serve").arg("--config").arg(&file).envs(variables.iter().copied());
        let service = Service::start(&mut command);
        let address = service.wait_listening();
        Self { folder, service, address }
    }

    /// Waits until the registry was read and `repository` can be made.
    fn wait_for(&self, repository: &str) {
        self.service.wait_for(|line| line.contains(&format!("plimsoll init {repository} ")).then_some(()));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends SIGHUP, with `config` in place, and returns what the log says last of it.
    fn reload(&self, config: &str) -> String {
        fs::write(self.file("plimsolld.toml"), config).unwrap();
        let told = |output: &str| output.lines().filter(|line| is_told(line)).count();
        let before = told(&self.service.output());
        signal(&self.service, "HUP");
        for _ in 0..3000 {
            let output = self.service.output();
            if told(&output) > before {
                return output.lines().rfind(|line| is_told(line)).unwrap().to_owned();
            }
            // What a log will say is not an event we could wait for from outside.
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no answer to SIGHUP: {}", self.service.output());
    }

    /// `plimsolld token …`
    fn token(&self, arguments: &[&str]) -> Run {
        let config = self.file("plimsolld.toml");
        let mut command = daemon(self.folder.path());
        command.arg("token").args(arguments).arg("--config").arg(config);
        run(&mut command, b"")
    }
}

fn is_told(line: &str) -> bool {
    line.contains("reloaded: ") || line.contains("not reloaded")
}

fn daemon(home: &Path) -> Command {
    let mut command = Command::new(binary("plimsolld"));
    command.env_clear().env("HOME", home).current_dir(home);
    command
}

fn signal(service: &Service, name: &str) {
    let pid = service.pid().to_string();
    run(Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]), b"").ok();
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Puts the certificate of `authority` where the daemon's configuration names it.
fn show(folder: &Path, authority: &Authority) {
    fs::copy(authority.certificate_file(), folder.join("server.crt")).unwrap();
    write_private(&folder.join("server.key"), &fs::read(authority.key_file()).unwrap());
}

/// An https connection to `address` by who trusts `authority`; it is kept open.
struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    fn open(address: SocketAddr, authority: &Authority) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(address.ip());
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = Self(StreamOwned::new(client, stream));
        connection.get("/livez")?;
        Ok(connection)
    }

    /// The status of `path`; the body must be short.
    fn get(&mut self, path: &str) -> io::Result<u16> {
        write!(self.0, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body)?;
        Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
    }
}

/// A machine of an owner with the key `owner.key`.
fn owner(home: &Path) -> Cli {
    fs::create_dir(home).unwrap();
    write_private(&home.join("passphrase"), b"a long passphrase\n");
    let cli = Cli::new(home);
    cli.run(&["key", "generate", "owner", "--passphrase-file", "passphrase"]).ok();
    cli
}

fn init(cli: &Cli, repository: &str, server: &str, more: &[&str]) -> Run {
    let arguments = [
        "init",
        repository,
        "--scope",
        "acme/**",
        "--server",
        server,
        "--key",
        "owner.key",
        "--passphrase-file",
        "passphrase",
    ];
    cli.run(&[&arguments[..], more].concat())
}

/// `count` connections from each of these addresses: of one alone, the daemon closes those beyond its limit.
fn connect_from(addresses: &[&str], count: usize, to: SocketAddr) -> Vec<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let mut all = Vec::new();
        for from in addresses.iter().flat_map(|from| std::iter::repeat_n(from, count)) {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(from.parse().unwrap()).unwrap();
            all.push(socket.connect(to).await.unwrap().into_std().unwrap());
        }
        all
    })
}

/// T76: the daemon's certificate is verified as a registry's is, and replaced without dropping a connection. T48, the
/// other way round: handshakes that do not come to their end keep nobody out.
#[test]
fn a_daemon_is_published_to_over_https_and_changes_its_certificate_while_it_runs() {
    let (first, second) = (Authority::new(), Authority::new());
    let registry = Registry::start_tls(Access::Open, &first);
    let folder = tempfile::tempdir().unwrap();
    show(folder.path(), &first);
    let repository = format!("{}/acme/trust", registry.address());
    let config = format!(
        "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[registry]\nca-file = \"{}\"\n[tls]\ncertificate = \"server.crt\"\n\
         key = \"server.key\"\n[[trust]]\nname = \"acme\"\nrepository = \"{repository}\"\n",
        first.ca_file().display()
    );
    let edge = Edge::start_in(folder, &config, &[]);
    let server = format!("https://{}", edge.address);
    edge.service.wait_for(|line| line.contains(&format!("--server {server}")).then_some(()));
    assert!(http::get(&format!("http://{}/livez", edge.address)).is_err(), "plain http is not served");

    let cli = owner(&edge.file("owner"));
    let ca = |authority: &Authority| {
        cli.clone().argument("--ca-file").argument(authority.ca_file().to_str().unwrap())
    };
    let stranger = init(&ca(&second), &repository, &server, &[]).expect_code(30);
    let why =
        format!("no TLS connection to {}; if its certificate is from a CA of your own, give", edge.address);
    assert!(stranger.stderr.contains(&why), "{}", stranger.stderr);
    assert!(stranger.stderr.contains("invalid peer certificate"), "{}", stranger.stderr);
    init(&ca(&first), &repository, &server, &["--name", "acme"]).ok();

    // More than may be half-way into a connection, and none says a word: who does is served.
    let silent = connect_from(&["127.0.0.2:0", "127.0.0.3:0"], 150, edge.address);
    assert_eq!(Connection::open(edge.address, &first).unwrap().get("/readyz").unwrap(), 200);
    drop(silent);

    // Another certificate: who was connected stays so, who comes sees the new one.
    let mut open = Connection::open(edge.address, &first).unwrap();
    show(edge.folder.path(), &second);
    let told = edge.reload(&config);
    assert!(told.contains("reloaded: certificate"), "{told}");
    assert_eq!(open.get("/readyz").unwrap(), 200);
    assert!(Connection::open(edge.address, &first).is_err());
    assert_eq!(Connection::open(edge.address, &second).unwrap().get("/readyz").unwrap(), 200);

    // What cannot be used changes nothing, and the log says what to do.
    fs::copy(first.certificate_file(), edge.file("server.crt")).unwrap();
    let told = edge.reload(&config);
    assert!(told.contains("not reloaded") && told.contains("is not that of the first certificate"), "{told}");
    fs::set_permissions(edge.file("server.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let told = edge.reload(&config);
    assert!(
        told.contains("server.key") && told.contains("open to others (mode 640); run `chmod 600`"),
        "{told}"
    );
    assert_eq!(open.get("/livez").unwrap(), 200);
    assert_eq!(Connection::open(edge.address, &second).unwrap().get("/readyz").unwrap(), 200);
}

#[test]
fn certificates_and_keys_that_cannot_be_used_are_told_by_file_and_remedy() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config = "[tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n[[trust]]\nname = \"a\"\n\
                  repository = \"r.io/a\"\n";
    let check = |config: &str| {
        fs::write(path("plimsolld.toml"), config).unwrap();
        run(daemon(folder.path()).args(["config", "check", "plimsolld.toml"]), b"")
    };
    show(folder.path(), &authority);
    check(config).ok();
    let told = |expected: &[&str]| {
        let refused = check(config).expect_code(1).stderr;
        assert!(expected.iter().all(|text| refused.contains(text)), "{refused}");
        assert!(!refused.contains("PRIVATE KEY-----\n"), "{refused}");
    };
    fs::write(path("server.crt"), "x").unwrap();
    told(&["server.crt", "holds no certificate in PEM"]);
    fs::remove_file(path("server.crt")).unwrap();
    told(&["server.crt", "No such file"]);
    show(folder.path(), &authority);
    write_private(&path("server.key"), &fs::read(other.key_file()).unwrap());
    told(&["server.key", "is not that of the first certificate in", "server.crt"]);
    write_private(
        &path("server.key"),
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    told(&["server.key", "it is encrypted", "openssl pkey"]);
    write_private(&path("server.key"), b"");
    told(&["server.key", "holds no private key in PEM"]);

    // Credentials of a service are not there to be checked, and said so.
    let config = config.replace("\"server.key\"", "\"credential:tls.key\"");
    let checked = check(&config).ok();
    assert!(checked.stdout.contains("not looked at: credential:tls.key"), "{}", checked.stdout);
}

/// What the service is given as credentials is read where systemd puts it.
#[test]
fn certificate_key_and_tokens_come_as_credentials() {
    let authority = Authority::new();
    let registry = Registry::open();
    let credentials = tempfile::tempdir().unwrap();
    show(credentials.path(), &authority);
    // As systemd leaves them: its access list shows as the group's bits.
    fs::set_permissions(credentials.path().join("server.key"), fs::Permissions::from_mode(0o440)).unwrap();
    write_private(&credentials.path().join("tokens"), b"");
    let config = format!(
        "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[tls]\ncertificate = \"credential:server.crt\"\n\
         key = \"credential:server.key\"\n[api]\ntokens = \"credential:tokens\"\n[[trust]]\nname = \"acme\"\n\
         repository = \"{}/acme/trust\"\n",
        registry.address()
    );
    let folder = credentials.path().to_str().unwrap();
    let edge = Edge::start(&config, &[("CREDENTIALS_DIRECTORY", folder)]);
    assert_eq!(Connection::open(edge.address, &authority).unwrap().get("/livez").unwrap(), 200);
    let refused = edge.token(&["add", "ci"]).expect_code(1);
    assert!(refused.stderr.contains("give --file FILE"), "{}", refused.stderr);
}

#[test]
fn what_can_change_is_reloaded_and_an_invalid_file_changes_nothing() {
    let config = |more: &str| format!("data = \"data\"\nlisten = \"127.0.0.1:0\"\n{more}");
    let edge = Edge::start(&config(""), &[]);
    let url = format!("http://{}", edge.address);
    let repository = format!("{}/main/trust", edge.address);
    edge.wait_for(&repository);
    init(&owner(&edge.file("owner")), &repository, &url, &[]).ok();
    let version = || {
        let answer = http::get(&format!("{url}/tuf/main/metadata/timestamp.json")).unwrap().text();
        let document: serde_json::Value = serde_json::from_str(&answer).unwrap();
        document["signed"]["version"].as_u64().unwrap()
    };

    let taken = |metric: &str| {
        let metrics = http::get(&format!("{url}/metrics")).unwrap().text();
        metrics.lines().any(|line| line == format!("plimsolld_{metric}"))
    };
    assert!(taken("reload_successful 1") && taken("restart_needed 0"));
    let before = version();
    for (text, expected) in [
        (
            "\n[freshness]\ntimestamp-interval = \"x\"",
            "plimsolld.toml:5: `freshness.timestamp-interval`: `x` is not",
        ),
        ("\nfreshnes = 1", "plimsolld.toml:4: `freshnes`: unknown field"),
        ("[api]\ntokens = \"/\"", "cannot use the file of tokens /: it is not a file"),
    ] {
        let told = edge.reload(&config(text));
        assert!(
            told.contains("not reloaded, everything goes on as it was") && told.contains(expected),
            "{told}"
        );
        assert!(taken("reload_successful 0"), "{text}");
    }
    // Opened, it would wait for somebody to write, and nothing would end the daemon.
    let fifo = edge.file("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let told = edge.reload(&config("[registry]\nca-file = \"fifo\""));
    assert!(told.contains("not reloaded") && told.contains("it is not a file"), "{told}");
    let told = edge.reload("data = \"data\"\nlisten = \"127.0.0.1:1\"\n[quota]\nroles = 5");
    assert!(told.contains("1 changed") && told.contains("1 need a restart"), "{told}");
    let said =
        |text: &str| assert!(edge.service.output().contains(text), "{text}: {}", edge.service.output());
    said("needs a restart, until then the old value goes on: `listen` is 127.0.0.1:1, was 127.0.0.1:0");
    said("changed: `quota.roles` is 5, was 1000");
    assert!(taken("reload_successful 1") && taken("restart_needed 1"));
    assert_eq!(http::get(&format!("{url}/v1/trusts/main")).unwrap().status, 200);
    assert_eq!(version(), before);

    edge.reload(&config("[freshness]\ntimestamp-validity = \"60s\"\ntimestamp-interval = \"1s\""));
    said("changed: `freshness.timestamp-interval` is 1s, was 1h");
    assert!(taken("reload_successful 1") && taken("restart_needed 0"));
    for _ in 0..3000 {
        if version() > before + 1 {
            return;
        }
        // The next signature is not an event we could wait for from outside.
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing was signed by the new interval: {}", edge.service.output());
}

/// Nothing of it needs a restart, and the log says what was done.
#[test]
fn log_registry_and_trust_repositories_change_while_it_runs() {
    let (authority, other) = (Authority::new(), Authority::new());
    let registry = Registry::start_tls(Access::Open, &authority);
    let config = |log: &str, ca: &Authority, trusts: &[&str]| {
        let ca = ca.ca_file().display().to_string();
        let mut config =
            format!("data = \"data\"\nlisten = \"127.0.0.1:0\"\n{log}\n[registry]\nca-file = \"{ca}\"\n");
        for trust in trusts {
            let repository = format!("{}/{trust}/trust", registry.address());
            config += &format!("[[trust]]\nname = \"{trust}\"\nrepository = \"{repository}\"\n");
        }
        config
    };
    let edge = Edge::start(&config("", &other, &["a"]), &[]);
    let url = format!("http://{}", edge.address);
    let said =
        |text: &str| assert!(edge.service.output().contains(text), "{text}: {}", edge.service.output());
    let line = |text: &str| edge.service.wait_for(|line| line.contains(text).then(|| line.to_owned()));
    let get = |path: &str| http::get(&format!("{url}{path}")).unwrap();
    let repository = |trust: &str| format!("{}/{trust}/trust", registry.address());
    line("not in the registry yet: no TLS connection");

    // The CA of the registry.
    edge.reload(&config("", &authority, &["a"]));
    said(&format!("changed: `registry.ca-file` is {}, was ", authority.ca_file().display()));
    edge.wait_for(&repository("a"));

    // One more trust repository, which is published to, and one less.
    edge.reload(&config("", &authority, &["a", "b"]));
    said(&format!("served from now on: {}", repository("b")));
    edge.wait_for(&repository("b"));
    let cli = owner(&edge.file("owner"));
    let ca = authority.ca_file().to_str().unwrap().to_owned();
    init(&cli.clone().argument("--ca-file").argument(&ca), &repository("b"), &url, &[]).ok();
    assert_eq!(get("/readyz").text().lines().count(), 2);
    edge.reload(&config("", &authority, &["b"]));
    said("not served any more");
    assert_eq!(get("/readyz").text(), "b: ready: fresh\n");
    assert!(!get("/metrics").text().contains("trust=\"a\""));
    assert_eq!(get("/v1/trusts/a").status, 404);

    // What is logged, also where the old filter would not let through what was done.
    let loud = |filter: &str| config(&format!("log = \"{filter}\""), &authority, &["b"]);
    let told = edge.reload(&loud("x=y=z"));
    assert!(told.contains("plimsolld.toml:3: `log`: not what is to be logged"), "{told}");
    edge.reload(&loud("error"));
    said("changed: `log` is error, was not set");
    let before = edge.service.output().len();
    edge.reload(&loud("info,plimsoll_server=debug"));
    let after = edge.service.output()[before..].to_owned();
    assert!(
        !after.contains("SIGHUP") && after.contains("`log` is info,plimsoll_server=debug, was error"),
        "{after}"
    );
    // A connection that ends in the middle of a request is worth a line to who looks for one.
    drop(TcpStream::connect(edge.address).unwrap().write_all(b"GET / HT"));
    line("a connection ended early");
}

/// The flag wins, also over what the file says later.
#[test]
fn the_flag_for_the_log_wins_over_the_configuration() {
    let config = |log: &str| format!("data = \"data\"\nlisten = \"127.0.0.1:0\"\nlog = \"{log}\"\n");
    let edge = Edge::start(&config("error"), &[("PLIMSOLLD_LOG", "info")]);
    let told = edge.reload(&config("debug"));
    assert!(told.contains(" 0 changed"), "{told}");
}

/// A restart cures no outage, so the watchdog must be fed all through one.
#[test]
fn systemd_is_told_of_every_step_and_the_watchdog_is_fed_through_an_outage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let receive = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let until = |wanted: &str| {
        let mut seen = Vec::new();
        loop {
            let message = receive();
            let found = message.starts_with(wanted);
            seen.push(message);
            if found {
                return seen;
            }
            assert!(seen.len() < 1000, "{wanted} never came: {seen:?}");
        }
    };
    // Nobody listens there.
    let config = "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[[trust]]\nname = \"acme\"\nrepository = \"127.0.0.1:1/acme/trust\"";
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let mut edge = Edge::start(config, &variables);
    assert_eq!(until("READY=1"), ["READY=1"]);
    let first = until("STATUS=0 of 1 trust repositories ready; acme: ");
    assert_eq!(first.len(), 1, "{first:?}");
    // It may know that already, and says each thing once.
    let unreached = "STATUS=0 of 1 trust repositories ready; acme: the registry was not read yet: cannot reach 127.0.0.1:1";
    if !first[0].starts_with(unreached) {
        until(unreached);
    }
    for _ in 0..20 {
        until("WATCHDOG=1");
    }
    assert!(http::get(&format!("http://{}/readyz", edge.address)).unwrap().status == 503);

    signal(&edge.service, "HUP");
    let seen = until("RELOADING=1\nMONOTONIC_USEC=");
    let time: u64 = seen.last().unwrap().rsplit('=').next().unwrap().parse().unwrap();
    assert!(time > 0);
    until("READY=1");
    until("WATCHDOG=1");
    assert_eq!(edge.service.terminate(), 0);
    until("STOPPING=1");
}

/// T72: a token goes to the daemon it is for and is shown nowhere else.
#[test]
fn submitting_needs_a_token_once_there_is_one_and_reading_never() {
    let config =
        "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[[trust]]\nname = \"main\"\n[[trust]]\nname = \"other\"";
    let edge = Edge::start(config, &[]);
    let url = format!("http://{}", edge.address);
    let token =
        edge.token(&["add", "ci", "--trust", "main", "--expires", "90d"]).ok().stdout.trim().to_owned();
    assert!(token.starts_with("plt_") && token.len() == 47, "{token}");
    let stranger = edge.token(&["add", "desk", "--trust", "other"]).ok().stdout.trim().to_owned();
    let twice = edge.token(&["add", "ci"]).expect_code(1);
    assert!(twice.stderr.contains("there is a token called `ci` already"), "{}", twice.stderr);
    edge.token(&["add", "x", "--trust", "nosuch"]).expect_code(1);
    edge.token(&["add", "x", "--expires", "0d"]).expect_code(2);
    let list = edge.token(&["list"]).ok().stdout;
    assert!(list.starts_with("ci  for main  made ") && list.contains("\ndesk  for other "), "{list}");
    let file = edge.file("data/tokens.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains(&token));

    let repository = format!("{}/main/trust", edge.address);
    edge.wait_for(&repository);
    edge.wait_for(&format!("{}/other/trust", edge.address));

    // On the wire.
    let submissions = format!("{url}/v1/trusts/main/submissions");
    let post = |headers: &[(&str, &str)]| {
        let answer = http::request("POST", &submissions, headers, b"{}").unwrap();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
        (answer.status, body["reason"].as_str().unwrap_or_default().to_owned(), challenge)
    };
    let bearer = |token: &str| format!("Bearer {token}");
    let told = |status, reason: &str, challenge: &str| (status, reason.to_owned(), challenge.to_owned());
    let realm = "Bearer realm=\"plimsolld\"";
    assert_eq!(post(&[]), told(401, "no-token", realm));
    let invalid = format!("{realm}, error=\"invalid_token\"");
    assert_eq!(post(&[("authorization", &bearer("plt_x"))]), told(401, "bad-token", &invalid));
    let scope = format!("{realm}, error=\"insufficient_scope\"");
    assert_eq!(post(&[("authorization", &bearer(&stranger))]), told(403, "token-trust", &scope));
    assert_eq!(post(&[("authorization", &bearer(&token))]), told(400, "", ""));
    for path in ["/readyz", "/v1/trusts", "/v1/trusts/main"] {
        assert_eq!(http::get(&format!("{url}{path}")).unwrap().status, 200, "{path}");
    }

    // By the command line.
    let cli = owner(&edge.file("owner"));
    let refused = init(&cli, &repository, &url, &[]).expect_code(31);
    assert!(refused.stderr.contains("submissions need a token here"), "{}", refused.stderr);
    assert!(refused.stderr.contains("PLIMSOLL_TOKEN"), "{}", refused.stderr);
    let refused = init(&cli.clone().env("PLIMSOLL_TOKEN", &stranger), &repository, &url, &[]).expect_code(31);
    assert!(refused.stderr.contains("the token desk is not for trust repository main"), "{}", refused.stderr);
    write_private(&edge.file("owner/token"), format!("{token}\n").as_bytes());
    init(&cli, &repository, &url, &["--token-file", "token"]).ok();

    // Beyond this machine it is not sent in the clear, whatever else is.
    let more = ["--plain-http"];
    let none =
        init(&cli.clone().env("PLIMSOLL_TOKEN", "two\twords"), &repository, &url, &more).expect_code(2);
    assert!(
        none.stderr.contains("PLIMSOLL_TOKEN holds no token") && !none.stderr.contains("words"),
        "{}",
        none.stderr
    );

    // Taken back, at once.
    edge.token(&["remove", "ci"]).ok();
    assert_eq!(post(&[("authorization", &bearer(&token))]), told(401, "bad-token", &invalid));
    edge.token(&["remove", "desk"]).ok();
    assert_eq!(post(&[]).0, 401, "the last token takes the need for one not with it");
    let output = edge.service.output();
    assert!(output.contains("submitted with a token") && output.contains("ci"), "{output}");
    assert!(!output.contains(&token) && !output.contains(&stranger), "{output}");
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is worth seeing in the output of a run")]
fn the_unit_file_is_one_that_systemd_takes_and_that_is_closed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let unit = fs::read_to_string(root.join("docs/plimsolld.service")).unwrap();
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=2min",
        "StateDirectory=plimsolld",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "SystemCallFilter=@system-service",
        "LoadCredential=registry-password:/etc/plimsolld/registry-password",
        "LoadCredential=tls.key:/etc/plimsolld/tls.key",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    // systemd looks whether the program is there.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plimsolld.service");
    fs::write(&path, unit.replace("ExecStart=/usr/local/bin/plimsolld ", "ExecStart=/bin/true ")).unwrap();
    let verify = run(Command::new("systemd-analyze").arg("verify").arg(&path), b"").ok();
    assert_eq!(verify.stderr, "");
    // Fails if the exposure is over 2.0 of 10.
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager", "--threshold=20"]).arg(&path);
    let exposure = run(&mut security, b"").ok().stdout;
    println!("{}", exposure.lines().rfind(|line| line.contains("Overall exposure")).unwrap());
}
