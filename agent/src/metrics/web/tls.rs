//! rustls' configuration from the written one.
//!
//! Cipher suites and curves are named as Go names them. Those of Go's that are
//! not built in here are left out, with a note: what remains is stricter.

use crate::metrics::web::file::{ClientAuth, Tls, Version};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion, version,
};
use std::sync::Arc;

/// TLS 1.2; those of 1.3 are always on, as with Go.
const SUITES: [(&str, CipherSuite); 6] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];
/// The other names that Go takes: TLS 1.3's, which are on anyway, and weak ones.
const OTHER_SUITES: [&str; 11] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];
const CURVES: [(&str, NamedGroup); 3] = [
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
    ("X25519", NamedGroup::X25519),
];
const OTHER_CURVES: [&str; 1] = ["CurveP521"];

/// PEM texts, read already.
pub struct Material {
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
    pub client_ca: Option<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no PEM certificate in {0}")]
    NoCertificate(&'static str),
    #[error("no PEM private key in the key file")]
    NoKey,
    #[error("unknown {kind} {name:?}: use {known}")]
    Unknown {
        kind: &'static str,
        name: String,
        known: String,
    },
    #[error("none of the {0} can be spoken")]
    NoneLeft(&'static str),
    #[error("cannot verify clients by this CA file")]
    ClientCa(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot use this certificate, key and version together")]
    Unusable(#[source] rustls::Error),
}

/// The configuration for each handshake. `notes` gets what was left out.
pub fn config(
    tls: &Tls,
    material: &Material,
    notes: &mut Vec<String>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider(tls, notes)?);
    let versions: &[&'static SupportedProtocolVersion] = match (tls.min, tls.max) {
        (Version::Tls13, _) => &[&version::TLS13],
        (_, Version::Tls12) => &[&version::TLS12],
        (Version::Tls12, Version::Tls13) => &[&version::TLS13, &version::TLS12],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsError::Unusable)?;
    let builder = match tls.client_auth {
        ClientAuth::No => builder.with_no_client_auth(),
        ClientAuth::Request | ClientAuth::RequireAny => {
            builder.with_client_cert_verifier(Arc::new(AnyClient {
                is_required: tls.client_auth == ClientAuth::RequireAny,
                provider,
            }))
        }
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let roots = Arc::new(roots(material.client_ca.as_deref().unwrap_or_default())?);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            if tls.client_auth == ClientAuth::VerifyIfGiven {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier
                .build()
                .map_err(|error| TlsError::ClientCa(error.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain: Vec<CertificateDer<'static>> = certificates(&material.cert, "cert_file")?;
    let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|_| TlsError::NoKey)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    config.ignore_client_order = tls.prefers_server_ciphers;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn provider(tls: &Tls, notes: &mut Vec<String>) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let kind = "cipher suite";
        let chosen = chosen(kind, &tls.cipher_suites, &SUITES, &OTHER_SUITES, notes)?;
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || chosen.contains(&suite.suite()));
        if tls.max == Version::Tls12 && chosen.is_empty() {
            return Err(TlsError::NoneLeft("cipher_suites"));
        }
    }
    if !tls.curves.is_empty() {
        let chosen = chosen("curve", &tls.curves, &CURVES, &OTHER_CURVES, notes)?;
        let known = provider.kx_groups.clone();
        let group = |name: &NamedGroup| -> Option<&'static dyn SupportedKxGroup> {
            known.iter().copied().find(|group| group.name() == *name)
        };
        provider.kx_groups = chosen.iter().filter_map(group).collect();
        if provider.kx_groups.is_empty() {
            return Err(TlsError::NoneLeft("curve_preferences"));
        }
    }
    Ok(provider)
}

/// The values of `names`, in their order.
fn chosen<T: Copy>(
    kind: &'static str,
    names: &[String],
    known: &[(&str, T)],
    others: &[&str],
    notes: &mut Vec<String>,
) -> Result<Vec<T>, TlsError> {
    let mut chosen = Vec::new();
    for name in names {
        if let Some((_, value)) = known.iter().find(|(known, _)| known == name) {
            chosen.push(*value);
        } else if others.contains(&name.as_str()) {
            let is_always_on = name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_");
            if !is_always_on {
                notes.push(format!("{kind} {name} is not spoken and left out"));
            }
        } else {
            let known: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
            return Err(TlsError::Unknown {
                kind,
                name: name.clone(),
                known: known.join(", "),
            });
        }
    }
    Ok(chosen)
}

fn certificates(pem: &[u8], from: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NoCertificate(from)),
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "client_ca_file")? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::ClientCa(error.into()))?;
    }
    Ok(roots)
}

/// Takes any certificate whose key the client has, as Go's RequestClientCert and
/// RequireAnyClientCert do: the peer is told apart, not trusted.
#[derive(Debug)]
struct AnyClient {
    is_required: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
