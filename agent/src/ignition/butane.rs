//! Butane, variant flatcar 1.0.0, whose output is Ignition 3.3.0: the same for people to read.

use super::gzip::data_url;
use super::plan::{Contents, File, Plan, Remote, State, Unit};
use super::yaml::{Yaml, is_plain};

pub fn butane(plan: &Plan) -> String {
    let mut yaml = Yaml::default();
    yaml.line(0, "variant: flatcar");
    yaml.line(0, "version: 1.0.0");
    yaml.line(0, "passwd:");
    yaml.line(1, "groups:");
    for group in &plan.groups {
        yaml.string(2, "- name", group);
        yaml.line(3, "system: true");
    }
    yaml.line(0, "storage:");
    if !plan.directories.is_empty() {
        yaml.line(1, "directories:");
        for path in &plan.directories {
            yaml.string(2, "- path", path);
            yaml.line(3, "mode: 0700");
        }
    }
    yaml.line(1, "files:");
    for each in &plan.files {
        file(&mut yaml, each);
    }
    if !plan.links.is_empty() {
        yaml.line(1, "links:");
        for (path, target) in &plan.links {
            yaml.string(2, "- path", path);
            yaml.string(3, "target", target);
            yaml.line(3, "overwrite: true");
        }
    }
    yaml.line(0, "systemd:");
    yaml.line(1, "units:");
    for each in &plan.units {
        unit(&mut yaml, each);
    }
    yaml.text()
}

fn file(yaml: &mut Yaml, file: &File) {
    yaml.string(2, "- path", &file.path);
    yaml.line(3, &format!("mode: {:04o}", file.mode));
    yaml.line(3, "overwrite: true");
    yaml.line(3, "contents:");
    match &file.contents {
        Contents::Remote(Remote { url, sha512 }) => {
            yaml.string(4, "source", url);
            yaml.line(4, "verification:");
            yaml.string(5, "hash", &format!("sha512-{sha512}"));
        }
        Contents::Inline(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if is_plain(text) => yaml.block(4, "inline", text),
            // Butane refuses an empty inline, and YAML holds no bytes.
            Ok(_) | Err(_) => yaml.string(4, "source", &data_url(bytes)),
        },
    }
}

fn unit(yaml: &mut Yaml, unit: &Unit) {
    yaml.string(2, "- name", &unit.name);
    match unit.state {
        State::Enabled => yaml.line(3, "enabled: true"),
        State::Masked => yaml.line(3, "mask: true"),
        State::AsIs => (),
    }
    if let Some(contents) = &unit.contents {
        yaml.block(3, "contents", contents);
    }
    if !unit.drop_ins.is_empty() {
        yaml.line(3, "dropins:");
    }
    for drop_in in &unit.drop_ins {
        yaml.string(4, "- name", &drop_in.name);
        yaml.block(5, "contents", &drop_in.contents);
    }
}
