use super::{BindError, Handed, InheritError, Inherited, Refusal, Variables, announced, bind, own};
use crate::listener::{Address, Listener};
use std::fs::{self, File, Permissions};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn variables(pid: &str, fds: &str, names: Option<&str>) -> Variables {
    Variables {
        pid: Some(pid.into()),
        fds: Some(fds.into()),
        names: names.map(Into::into),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn descriptors_are_announced_by_number_and_name() {
    let found = announced(&variables("7", "3", Some("forward:forward:metrics")), 7).unwrap();
    let expected = [(3, "forward"), (4, "forward"), (5, "metrics")];
    assert_eq!(found, expected.map(|(fd, name)| (fd, name.to_owned())));
    let found = announced(&variables("7", "2", Some("forward")), 7).unwrap();
    assert_eq!(found[1], (4, "unknown".to_owned()));
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    assert!(announced(&variables("8", "1", None), 7).unwrap().is_empty());
    assert!(announced(&Variables::default(), 7).unwrap().is_empty());
}

#[test]
fn a_count_that_is_no_number_is_named() {
    let error = announced(&variables("7", "many", None), 7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read LISTEN_FDS: \"many\" is not a number"
    );
    // More than a process can have: no list of four thousand million names.
    assert!(
        announced(&variables("7", "4294967295", None), 7)
            .unwrap()
            .len()
            <= 1 << 20
    );
}

#[test]
fn a_closed_descriptor_is_refused() {
    // Far above any limit of open files, so nobody in this process has it.
    let error = own(1 << 30, "forward").unwrap_err();
    assert!(matches!(error, InheritError::Closed { .. }), "{error}");
}

#[test]
fn an_owned_descriptor_is_not_inherited_further() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
    let owned = own(socket.into_raw_fd(), "metrics").unwrap();
    let flags = rustix::io::fcntl_getfd(&owned).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn only_listening_stream_sockets_are_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for foreign in [
        File::open("/dev/null").unwrap().into(),
        UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        UnixDatagram::unbound().unwrap().into(),
        client.into(),
    ] {
        let refusal = Handed::check(foreign).unwrap_err();
        assert!(matches!(refusal, Refusal::Kind), "{refusal:?}");
    }
}

#[tokio::test]
async fn listeners_are_taken_once_and_by_name() {
    let dir = TempDir::new().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(dir.path().join("forward.sock")).unwrap();
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
    let handed = [
        ("forward", tcp.into()),
        ("forward", unix.into()),
        ("metrics", metrics.into()),
    ];
    let sockets = handed.map(|(name, fd)| (name.to_owned(), Handed::check(fd).unwrap()));
    let mut inherited = Inherited {
        sockets: sockets.into(),
    };
    let forward = inherited.take("forward").unwrap();
    assert!(
        matches!(forward[..], [Listener::Tcp(_), Listener::Unix(_)]),
        "{forward:?}"
    );
    assert!(inherited.take("forward").unwrap().is_empty());
    assert_eq!(inherited.left().collect::<Vec<_>>(), ["metrics"]);

    // Non-blocking, else this would hang the runtime's only thread.
    let connect = tokio::net::TcpStream::connect(address);
    let (accepted, connected) = tokio::join!(forward[0].accept(), connect);
    accepted.unwrap();
    connected.unwrap();
}

#[tokio::test]
async fn a_port_in_use_names_its_holder() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(held.local_addr().unwrap());
    let error = bind(&address).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot listen on {address}: in use by ")),
        "{text}"
    );
    assert!(
        text.ends_with(&format!(", pid {}", std::process::id())),
        "{text}"
    );
}

#[tokio::test]
async fn a_port_with_fading_connections_can_be_bound_again() {
    let first = bind(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let Listener::Tcp(tcp) = &first else {
        panic!("{first:?}")
    };
    let address = tcp.local_addr().unwrap();
    let client = tokio::net::TcpStream::connect(address).await.unwrap();
    // The listener's side closes first, so TIME_WAIT is on its port.
    drop(first.accept().await.unwrap());
    drop(first);
    client.readable().await.unwrap();
    drop(client);
    bind(&Address::Tcp(address)).unwrap();
}

#[tokio::test]
async fn a_foreign_address_is_an_error_with_its_cause() {
    // TEST-NET-1 is on no interface; bind(2) refuses it without a packet.
    let error = bind(&Address::Tcp("192.0.2.1:0".parse().unwrap())).unwrap_err();
    assert!(matches!(error, BindError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn a_unix_socket_is_open_to_its_group_and_no_further() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("run/agent/control.sock");
    let listener = bind(&Address::Unix(path.clone())).unwrap();
    assert_eq!(listener.address(), format!("unix:{}", path.display()));
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    assert_eq!(mode(&dir.path().join("run")), 0o755);
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("forward.sock");
    let address = Address::Unix(path.clone());
    drop(UnixListener::bind(&path).unwrap());
    let live = bind(&address).unwrap();
    let error = bind(&address).unwrap_err();
    let BindError::InUse { holder, .. } = &error else {
        panic!("{error}")
    };
    let pid = format!(", pid {}", std::process::id());
    assert!(holder.as_ref().unwrap().ends_with(&pid), "{error}");
    UnixStream::connect(&path).unwrap();
    drop(live);
    bind(&address).unwrap();
}

#[tokio::test]
async fn a_live_socket_with_a_full_backlog_is_in_use() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("busy.sock");
    let busy = super::unix_socket().unwrap();
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    rustix::net::bind(&busy, &address).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let client = super::unix_socket().unwrap();
            let full = rustix::net::connect(&client, &address).is_err();
            (client.as_raw_fd(), client, full)
        })
        .collect();
    assert!(
        clients.iter().any(|(_, _, full)| *full),
        "the backlog never filled"
    );
    let error = bind(&Address::Unix(path)).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_removed() {
    let dir = TempDir::new().unwrap();
    let path: PathBuf = dir.path().join("notes.txt");
    fs::write(&path, "mine").unwrap();
    let error = bind(&Address::Unix(path.clone())).unwrap_err();
    let text = crate::chain::Chain(&error).to_string();
    assert!(text.contains("not a socket"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert!(!fs::metadata(&path).unwrap().file_type().is_socket());
}

#[tokio::test]
async fn an_existing_directory_keeps_its_mode() {
    let dir = TempDir::new().unwrap();
    let parent = dir.path().join("private");
    fs::create_dir(&parent).unwrap();
    fs::set_permissions(&parent, Permissions::from_mode(0o700)).unwrap();
    bind(&Address::Unix(parent.join("a.sock"))).unwrap();
    assert_eq!(mode(&parent), 0o700);
}
