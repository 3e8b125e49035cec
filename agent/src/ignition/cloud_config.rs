//! cloud-config, as coreos-cloudinit of Flatcar applies it at every boot.
//!
//! It can write files and units but fetch nothing, so the binary comes by a
//! unit of its own, which runs before the agent. What it has installed once it
//! leaves alone until the user-data names another hash: an agent that was
//! upgraded since stays upgraded.

use super::gzip::{base64, gzip};
use super::plan::{Contents, File, Plan, Remote, State, Unit};
use super::yaml::{Yaml, is_plain};

const INSTALLER: &str = "/opt/bin/agent-install";
const INSTALLER_UNIT: &str = "agent-install.service";
const BINARY: &str = "/opt/bin/agent";
/// What coreos-cloudinit puts addresses in place of, wherever it stands.
const TOKENS: [&str; 2] = ["$public_ipv4", "$private_ipv4"];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CloudConfigError {
    #[error(
        "a cloud-config host cannot fetch {0}: only https:// and http:// for the binary, nothing else from a URL"
    )]
    Url(String),
    #[error("a cloud-config host cannot take a system extension: name a binary")]
    Sysext,
}

/// `compress`: contents of files are gzip where that is shorter.
pub fn cloud_config(plan: &Plan, compress: bool) -> Result<String, CloudConfigError> {
    if !plan.links.is_empty() {
        return Err(CloudConfigError::Sysext);
    }
    let mut yaml = Yaml::default();
    yaml.line(0, "#cloud-config");
    yaml.line(0, "write_files:");
    let mut binary = None;
    for each in &plan.files {
        match &each.contents {
            Contents::Inline(bytes) => file(&mut yaml, each, bytes, compress),
            Contents::Remote(remote) if each.path == BINARY && remote.url.starts_with("http") => {
                binary = Some(remote);
            }
            Contents::Remote(remote) => return Err(CloudConfigError::Url(remote.url.clone())),
        }
    }
    let script = installer(binary, &plan.directories);
    let each = File {
        path: INSTALLER.into(),
        mode: 0o755,
        contents: Contents::Inline(Vec::new()),
    };
    file(&mut yaml, &each, script.as_bytes(), compress);
    yaml.line(0, "coreos:");
    yaml.line(1, "units:");
    for each in plan.units.iter().filter(|u| u.state == State::Masked) {
        yaml.string(2, "- name", &each.name);
        yaml.line(3, "command: stop");
        yaml.line(3, "mask: true");
    }
    // logind runs already and has read its configuration.
    yaml.string(2, "- name", "systemd-logind.service");
    yaml.line(3, "command: restart");
    let names: Vec<&str> = plan
        .units
        .iter()
        .filter(|unit| unit.state == State::Enabled)
        .map(|unit| unit.name.as_str())
        .collect();
    yaml.string(2, "- name", INSTALLER_UNIT);
    yaml.line(3, "command: start");
    yaml.block(3, "content", &installer_unit(&names));
    // Sockets first: who starts them later finds their service running.
    let (sockets, services): (Vec<&Unit>, Vec<&Unit>) = plan
        .units
        .iter()
        .filter(|unit| unit.state == State::Enabled)
        .partition(|unit| unit.name.ends_with(".socket"));
    for each in sockets.into_iter().chain(services) {
        unit(&mut yaml, each);
    }
    Ok(yaml.text())
}

fn file(yaml: &mut Yaml, file: &File, bytes: &[u8], compress: bool) {
    yaml.string(1, "- path", &file.path);
    yaml.line(2, &format!("permissions: \"{:04o}\"", file.mode));
    yaml.line(2, "owner: \"root:root\"");
    let text = std::str::from_utf8(bytes).ok();
    let plain = text.filter(|text| is_plain(text) && !TOKENS.iter().any(|t| text.contains(t)));
    if compress {
        let packed = base64(&gzip(bytes));
        if packed.len() < bytes.len() || plain.is_none() {
            yaml.line(2, "encoding: gzip+base64");
            return yaml.line(2, &format!("content: {packed}"));
        }
    }
    match plain {
        Some(text) => yaml.block(2, "content", text),
        None => {
            yaml.line(2, "encoding: base64");
            yaml.line(2, &format!("content: \"{}\"", base64(bytes)));
        }
    }
}

fn unit(yaml: &mut Yaml, unit: &Unit) {
    yaml.string(2, "- name", &unit.name);
    yaml.line(3, "command: start");
    yaml.line(3, "enable: true");
    if let Some(contents) = &unit.contents {
        yaml.block(3, "content", contents);
    }
    if !unit.drop_ins.is_empty() {
        yaml.line(3, "drop-ins:");
    }
    for drop_in in &unit.drop_ins {
        yaml.string(4, "- name", &drop_in.name);
        yaml.block(5, "content", &drop_in.contents);
    }
}

fn installer_unit(before: &[&str]) -> String {
    let before = before.join(" ");
    format!(
        "[Unit]\n\
         Description=Fetch the agent and check its hash\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         Before={before}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={INSTALLER}\n\
         Restart=on-failure\n\
         RestartSec=5\n"
    )
}

/// Makes the group, then fetches the binary, checked before it is in its place.
fn installer(binary: Option<&Remote>, private: &[String]) -> String {
    let mut script = String::from(
        "#!/bin/bash\n\
         set -euo pipefail\n\
         systemd-sysusers /etc/sysusers.d/agent.conf\n",
    );
    for directory in private {
        script.push_str(&format!(
            "chmod 0700 '{}'\n",
            directory.replace('\'', r"'\''")
        ));
    }
    let Some(Remote { url, sha512 }) = binary else {
        return script;
    };
    script.push_str(&format!(
        "agent={BINARY}\n\
         url='{url}'\n\
         sum={sha512}\n\
         if [ -x \"$agent\" ] && [ \"$(cat \"$agent.sha512\" 2>/dev/null)\" = \"$sum\" ]; then exit; fi\n\
         trap 'rm -f \"$agent.new\"' EXIT\n\
         curl --fail --silent --show-error --location --retry 5 --connect-timeout 10 --max-time 600 --output \"$agent.new\" \"$url\"\n\
         if ! echo \"$sum  $agent.new\" | sha512sum --check --status; then\n\
         \x20 echo \"$url is not what the user-data says: wrong sha512\" >&2\n\
         \x20 exit 1\n\
         fi\n\
         chmod 0755 \"$agent.new\"\n\
         mv -f \"$agent.new\" \"$agent\"\n\
         echo \"$sum\" >\"$agent.sha512\"\n\
         systemctl --no-block try-restart agent.service\n"
    ));
    script
}
