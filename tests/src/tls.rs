//! A private certificate authority and a certificate for loopback.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// A private CA, and a server certificate signed by it for `127.0.0.1`, `::1` and `localhost`, as PEM files.
///
/// Keys are ECDSA P-256, made anew for each value; the files go when it is dropped.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
    pem: String,
}

impl Authority {
    /// Makes the CA and the certificate, and writes them.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().expect("a P-256 key can be made");
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "Plimsoll test CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = ca.self_signed(&ca_key).expect("a CA can sign itself").pem();
        let issuer = Issuer::new(ca, ca_key);

        let server_key = KeyPair::generate().expect("a P-256 key can be made");
        let names = ["127.0.0.1", "::1", "localhost"].map(str::to_owned);
        let mut server = CertificateParams::new(names).expect("these names are valid");
        server.distinguished_name.push(DnType::CommonName, "localhost");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = server.signed_by(&server_key, &issuer).expect("a CA can sign a server").pem();

        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let this = Self { directory, pem };
        fs::create_dir(this.ca_directory()).expect("a temporary directory can be written");
        for (path, text) in [
            (this.ca_file(), &this.pem),
            (this.certificate_file(), &certificate),
            (this.key_file(), &server_key.serialize_pem()),
        ] {
            fs::write(path, text).expect("a temporary directory can be written");
        }
        this
    }

    /// The CA's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The CA's certificate, a PEM file: what `--ca-file` takes.
    pub fn ca_file(&self) -> PathBuf {
        self.ca_directory().join("ca.crt")
    }

    /// A directory with nothing in it but `ca.crt`: what skopeo's `--cert-dir` and `/etc/docker/certs.d/HOST` are.
    pub fn ca_directory(&self) -> PathBuf {
        self.path().join("certs.d")
    }

    /// The server's certificate, a PEM file.
    pub fn certificate_file(&self) -> PathBuf {
        self.path().join("server.crt")
    }

    /// The server's private key, a PKCS#8 PEM file.
    pub fn key_file(&self) -> PathBuf {
        self.path().join("server.key")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
