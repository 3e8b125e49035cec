//! Files as they are found on hosts: right, missing, hostile.

use super::{MAX_FILE, ResolveError, Resolved, resolve};
use crate::chain::Chain;
use crate::supervise::spec::{EnvFile, EnvFormat, SecretSource, SecretUse, Spec};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn env_file(path: &Path, required: bool) -> EnvFile {
    EnvFile {
        path: path.into(),
        required,
        format: EnvFormat::Compose,
    }
}

fn with_secret(path: &Path, target: Option<&str>) -> Spec {
    let secret = SecretUse {
        source: SecretSource::File(path.into()),
        target: target.map(str::to_string),
    };
    Spec {
        secrets: BTreeMap::from([("TOKEN".into(), secret)]),
        ..Spec::default()
    }
}

fn told(outcome: Result<Resolved, ResolveError>) -> String {
    Chain(&outcome.unwrap_err()).to_string()
}

#[test]
fn files_are_laid_over_each_other_and_the_digest_follows_their_content() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    fs::write(&one, "A=1\nB=1\n").unwrap();
    fs::write(&two, "# mine\nB=${A}2\n").unwrap();
    let spec = Spec {
        env_files: vec![env_file(&one, true), env_file(&two, false)],
        ..Spec::default()
    };
    let first = resolve(&spec).unwrap();
    assert_eq!(first.env_files["A"].expose(), "1");
    assert_eq!(first.env_files["B"].expose(), "12");
    assert_eq!(format!("{:?}", first.env_files), r#"{"A": ***, "B": ***}"#);
    // A comment is no content.
    fs::write(&two, "B=12\n").unwrap();
    assert_eq!(resolve(&spec).unwrap().content, first.content);
    fs::write(&two, "B=13\n").unwrap();
    assert_ne!(resolve(&spec).unwrap().content, first.content);
    fs::remove_file(&two).unwrap();
    assert_eq!(resolve(&spec).unwrap().env_files["B"].expose(), "1");
    fs::remove_file(&one).unwrap();
    let text = told(resolve(&spec));
    let expected = format!("cannot read env_file {}: No such file", one.display());
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn a_secret_loses_one_newline_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    for (content, value) in [
        ("a b\n", "a b"),
        ("a\r\n", "a"),
        (" a\n\n", " a\n"),
        ("é", "é"),
    ] {
        fs::write(&path, content).unwrap();
        let resolved = resolve(&with_secret(&path, None)).unwrap();
        assert_eq!(resolved.secrets["TOKEN"].expose(), value);
    }
}

#[test]
fn a_secret_that_is_a_file_may_be_any_bytes_and_counts_for_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let spec = with_secret(&path, Some("/run/secrets/key"));
    fs::write(&path, [0, 255]).unwrap();
    let first = resolve(&spec).unwrap();
    assert!(first.secrets.is_empty());
    fs::write(&path, [0, 254]).unwrap();
    assert_ne!(resolve(&spec).unwrap().content, first.content);
}

#[test]
fn unfit_files_are_told_by_name_and_never_by_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let large = vec![b'x'; usize::try_from(MAX_FILE).unwrap() + 1];
    let long = vec![b'x'; 128 * 1024];
    let cases: [(&[u8], &str); 6] = [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter\xff", "is not UTF-8"),
        (b"hunter\0", "has a NUL character"),
        (&large, "is larger than 1 MiB"),
        (&long, "too long for an environment variable"),
    ];
    for (content, expected) in cases {
        fs::write(&path, content).unwrap();
        let text = told(resolve(&with_secret(&path, None)));
        assert!(
            text.starts_with(&format!("secret TOKEN {}", path.display())),
            "{text}"
        );
        assert!(
            text.contains(expected) && !text.contains("hunter"),
            "{text}"
        );
    }
    let text = told(resolve(&with_secret(dir.path(), None)));
    assert!(text.ends_with("is not a regular file"), "{text}");
    fs::remove_file(&path).unwrap();
    let text = told(resolve(&with_secret(&path, Some("/x"))));
    assert!(text.starts_with("cannot read secret TOKEN"), "{text}");
}

#[test]
fn a_seccomp_profile_is_sent_and_not_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("profile.json");
    let spec = Spec {
        security_opt: vec![
            "no-new-privileges:true".into(),
            format!("seccomp={}", path.display()),
        ],
        ..Spec::default()
    };
    fs::write(&path, "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n").unwrap();
    let options = resolve(&spec).unwrap().security_opt.unwrap();
    assert_eq!(
        options,
        [
            "no-new-privileges:true",
            "seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"
        ]
    );
    fs::write(&path, "allow").unwrap();
    assert!(told(resolve(&spec)).ends_with("is not JSON"));
    let plain = Spec {
        security_opt: vec!["seccomp=unconfined".into()],
        ..Spec::default()
    };
    assert!(!plain.reads_files());
}
