//! Where logins come from, and that they are never shown.

use super::{Credentials, Dynamic, Found, Login};
use crate::secret::{Secret, Source};
use crate::supervise::pull::{Named, Settings};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use std::sync::Arc;

const WORD: &str = "pass:w?rd~";

fn settings(dir: &Path, config: &str) -> Settings {
    let docker_config = dir.join("config.json");
    std::fs::write(&docker_config, config).unwrap();
    Settings {
        docker_config,
        ..Settings::default()
    }
}

async fn find(config: &str, registry: &str) -> Found {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), config);
    let found = Credentials::default()
        .find(&settings, registry, false)
        .await;
    assert!(!format!("{found:?}").contains(WORD), "{found:?}");
    found
}

fn password(found: &Found) -> Option<&str> {
    found.login.as_ref().map(|login| login.password.expose())
}

#[tokio::test]
async fn entries_of_a_docker_config_are_found_by_any_of_the_registrys_names() {
    let auth = STANDARD.encode(format!("me:{WORD}"));
    let bare = auth.trim_end_matches('=');
    let cases = [
        (
            format!(r#"{{"auths":{{"r.example:5000":{{"auth":"{auth}"}}}}}}"#),
            "r.example:5000",
        ),
        (
            format!(r#"{{"auths":{{"https://r.example/v2/":{{"auth":"{bare}"}}}}}}"#),
            "r.example",
        ),
        (
            format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#),
            "docker.io",
        ),
        (
            format!(r#"{{"auths":{{"r.example":{{"username":"me","password":"{WORD}"}}}}}}"#),
            "r.example",
        ),
        (
            format!(r#"{{"credsStore":"x","auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#),
            "r.example",
        ),
    ];
    for (config, registry) in cases {
        let found = find(&config, registry).await;
        assert_eq!(password(&found), Some(WORD), "{}", found.told);
        assert_eq!(found.login.unwrap().username, "me");
        assert_eq!(find(&config, "other.example").await.login, None);
    }
    let token = r#"{"auths":{"r.example":{"auth":"bWU6","identitytoken":"tok"}}}"#;
    let login = find(token, "r.example").await.login.unwrap();
    assert_eq!(login.identity_token, Some(Secret::new("tok".into())));
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let helper = r#"{"credHelpers":{"r.example":"ecr-login"}}"#;
    let told = find(helper, "r.example").await.told;
    assert!(
        told.contains("docker-credential-ecr-login (credHelpers)"),
        "{told}"
    );
    let store = r#"{"credsStore":"secretservice","auths":{"r.example":{}}}"#;
    let told = find(store, "r.example").await.told;
    assert!(
        told.contains("docker-credential-secretservice (credsStore)"),
        "{told}"
    );
    for (config, word) in [
        ("{}", "no entry for r.example"),
        (r#"{"auths":{"r.example":{"auth":"!"}}}"#, "cannot be read"),
        (r#"{"auths":5}"#, "is no docker config (line 1"),
    ] {
        let found = find(config, "r.example").await;
        assert!(
            found.told.contains(word) && found.login.is_none(),
            "{found:?}"
        );
    }
    let absent = Settings {
        docker_config: "/nonexistent/config.json".into(),
        ..Settings::default()
    };
    let found = Credentials::default()
        .find(&absent, "r.example", false)
        .await;
    assert_eq!(found.told, "none: no /nonexistent/config.json");
}

#[tokio::test]
async fn the_config_goes_before_another_room_and_that_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let auth = STANDARD.encode("file:f");
    let mut settings = settings(
        dir.path(),
        &format!(
            r#"{{"auths":{{"a":{{"auth":"{auth}"}},"b":{{"auth":"{auth}"}},"c":{{"auth":"{auth}"}}}}}}"#
        ),
    );
    std::fs::write(dir.path().join("word"), "first\n").unwrap();
    settings.credentials.insert(
        "a".into(),
        Named {
            username: "config".into(),
            password: Source::Credential("word".into()),
        },
    );
    let credentials = Credentials {
        directory: Some(dir.path().into()),
        dynamic: Some(Dynamic(Arc::new(|question| {
            Box::pin(async move {
                if question.registry == "c" {
                    return Ok(None);
                }
                let word = if question.refused { "fresh" } else { "kept" };
                Ok(Some(Login {
                    username: "room".into(),
                    password: Secret::new(word.into()),
                    identity_token: None,
                }))
            })
        }))),
    };
    let find = |registry, refused| credentials.find(&settings, registry, refused);
    assert_eq!(password(&find("a", false).await), Some("first"));
    // Rotated: read anew.
    std::fs::write(dir.path().join("word"), "second\n").unwrap();
    assert_eq!(password(&find("a", true).await), Some("second"));
    assert_eq!(password(&find("b", false).await), Some("kept"));
    assert_eq!(password(&find("b", true).await), Some("fresh"));
    assert_eq!(password(&find("c", false).await), Some("f"));
}
