//! Debian's docker-registry on loopback, with logins.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use tempfile::TempDir;
use tests::agent::free_port;
use tests::program::command;
use tests::wait;

pub const USER: &str = "deploy";
/// Characters that tell the alphabets of Base64 apart, at every place of a group.
pub const PASSWORD: &str = "wo~?r>d~~??>>";
/// The same password as htpasswd -B writes it.
const HTPASSWD: &str = "deploy:$2y$05$2rq0QsTUz8VRwMHnO/rLluUllgOGTbRsjSLsNyu3yvX0Z1TKJDOw6\n";

pub struct Registry {
    dir: TempDir,
    child: Child,
    pub address: SocketAddr,
}

impl Registry {
    pub fn start() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let address = free_port();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("htpasswd"), HTPASSWD).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{ level: warn }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: \"{address}\" }}\n\
             auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n",
            at("data").display(),
            at("htpasswd").display(),
        );
        fs::write(at("config.yml"), config).unwrap();
        let log = File::create(at("log")).unwrap();
        // Ends with the test even when the test is aborted.
        let mut run = command("setpriv");
        run.args(["--pdeathsig", "KILL", "docker-registry", "serve"]);
        let child = run
            .arg(at("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut registry = Registry {
            dir,
            child,
            address,
        };
        wait::until("the registry listens", || {
            if let Some(status) = registry.child.try_wait().unwrap() {
                let log = fs::read_to_string(registry.dir.path().join("log")).unwrap_or_default();
                panic!(
                    "docker-registry ended, {status} (apt-get install docker-registry; tests/run does):\n{log}"
                );
            }
            TcpStream::connect(address).ok()
        });
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
