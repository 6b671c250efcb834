//! A GitHub App that is installed: it proves who it is with a signed claim, and gets the installation's token for it.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::Deserialize;
use serde_json::json;

use super::message;

/// The longest time that GitHub lets a claim live, in seconds, and a minute for clocks that differ.
const LONGEST: u64 = 660;

/// An App with a key of its own.
#[derive(Debug, Clone)]
pub struct App {
    id: u64,
    installation: u64,
    private_key: String,
    public_key: String,
}

/// What a claim says.
#[derive(Deserialize)]
struct Claims {
    iss: serde_json::Value,
    iat: u64,
    exp: u64,
}

impl App {
    /// Makes an App and its key.
    pub fn new(id: u64, installation: u64) -> anyhow::Result<Self> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Ok(Self { id, installation, private_key: key.serialize_pem(), public_key: key.public_key_pem() })
    }

    /// The keys of a Secret for it.
    pub fn keys(&self) -> [(&'static str, String); 3] {
        [
            ("appId", self.id.to_string()),
            ("installationId", format!("{}\n", self.installation)),
            ("privateKey", self.private_key.clone()),
        ]
    }

    /// Where the token is asked for.
    pub(super) fn path(&self) -> String {
        format!("/app/installations/{}/access_tokens", self.installation)
    }

    /// Gives out `token` for a good claim.
    pub(super) fn answer(&self, claim: &str, token: &str) -> Response {
        if let Err(problem) = self.check(claim) {
            return message(StatusCode::UNAUTHORIZED, &problem);
        }
        let body = json!({
            "token": token, "expires_at": "2099-07-11T22:14:10Z", "repository_selection": "selected",
            "permissions": {"issues": "read", "contents": "read", "metadata": "read"},
        });
        (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string())
            .into_response()
    }

    fn check(&self, claim: &str) -> Result<(), String> {
        let key = DecodingKey::from_rsa_pem(self.public_key.as_bytes()).map_err(|error| error.to_string())?;
        let mut rules = Validation::new(Algorithm::RS256);
        rules.set_required_spec_claims(&["exp"]);
        let decoded = jsonwebtoken::decode::<Claims>(claim, &key, &rules);
        let Claims { iss, iat, exp } = decoded.map_err(|_| "A JSON web token could not be decoded".to_owned())?.claims;
        if iss.to_string().trim_matches('"') != self.id.to_string() {
            return Err("'Issuer' claim ('iss') must be the App's".to_owned());
        }
        if exp.saturating_sub(iat) > LONGEST {
            return Err("'Expiration time' claim ('exp') is too far in the future".to_owned());
        }
        Ok(())
    }
}
