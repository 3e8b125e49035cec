use super::systemd1::Systemd1;
use super::{Bus, BusError, CONNECT, Object, Place, place};
use futures_util::StreamExt;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::time::Instant;
use zbus::message::Type;
use zbus::{Connection, MessageStream, ObjectPath, Variant};

const UNIT: Object<'static> = Object {
    service: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1/unit/a_2eservice",
};
const N_RESTARTS: (&str, &str) = ("org.freedesktop.systemd1.Service", "NRestarts");

/// Soon for a call that is not answered.
fn soon() -> Instant {
    Instant::now() + Duration::from_millis(200)
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

struct Peer {
    _dir: TempDir,
    listener: UnixListener,
    bus: Bus,
}

fn peer() -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    Peer {
        listener: UnixListener::bind(&socket).unwrap(),
        bus: Bus::at(&format!("unix:path={}", socket.display())),
        _dir: dir,
    }
}

impl Peer {
    /// Takes the next connection up to its greeting.
    async fn accept(&self) -> MessageStream {
        let (socket, _) = self.listener.accept().await.unwrap();
        let guid = zbus::Guid::generate();
        let socket = socket.into_std().unwrap();
        let builder = zbus::connection::Builder::unix_stream(socket);
        let connection = builder.server(guid).p2p().build().await.unwrap();
        let mut calls = MessageStream::from(connection);
        let hello = calls.next().await.unwrap().unwrap();
        assert_eq!(hello.header().member().unwrap().as_str(), "Hello");
        let name = format!(":1.{}", hello.primary_header().serial_num());
        let connection = Connection::from(&calls);
        connection.reply(&hello.header(), &name).await.unwrap();
        calls
    }
}

/// Answers the next call: the property, or the error of that name.
async fn answer(calls: &mut MessageStream, with: Result<Variant<'_>, &str>) {
    let call = calls.next().await.unwrap().unwrap();
    assert_eq!(call.message_type(), Type::MethodCall);
    let connection = Connection::from(&*calls);
    let header = call.header();
    match with {
        Ok(value) => connection.reply(&header, &value).await.unwrap(),
        Err(name) => connection.reply_error(&header, name, &"no").await.unwrap(),
    }
}

#[tokio::test]
async fn properties_come_over_one_connection_and_a_refusal_keeps_it() {
    let peer = peer();
    let serve = async {
        let mut calls = peer.accept().await;
        answer(&mut calls, Ok(Variant::from(7u32))).await;
        let unknown = "org.freedesktop.DBus.Error.UnknownProperty";
        answer(&mut calls, Err(unknown)).await;
        answer(&mut calls, Ok(Variant::from("seven"))).await;
    };
    let ask = async {
        let value: u32 = peer.bus.property(UNIT, N_RESTARTS, later()).await.unwrap();
        assert_eq!(value, 7);
        let refused = peer.bus.property::<u32>(UNIT, N_RESTARTS, later()).await;
        let refused = refused.unwrap_err();
        assert!(refused.is_refused(), "{refused:?}");
        let text = refused.to_string();
        assert!(text.ends_with("DBus.Error.UnknownProperty"), "{text}");
        let wrong = peer.bus.property::<u32>(UNIT, N_RESTARTS, later()).await;
        assert!(matches!(wrong, Err(BusError::Answer { .. })), "{wrong:?}");
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_peer_that_never_greets_costs_no_more_than_connecting_may() {
    let peer = peer();
    let began = Instant::now();
    let deaf = peer.bus.connect(later()).await.unwrap_err();
    assert!(matches!(deaf, BusError::Deaf { .. }), "{deaf:?}");
    assert!(deaf.is_unreachable());
    assert!(began.elapsed() < CONNECT * 4, "{:?}", began.elapsed());
}

#[tokio::test]
async fn after_a_call_without_answer_the_next_one_has_a_connection_of_its_own() {
    let peer = peer();
    let serve = async {
        let mut first = peer.accept().await;
        first.next().await.unwrap().unwrap();
        let mut second = peer.accept().await;
        // The first is closed, and its late answer would go nowhere.
        assert!(
            Connection::from(&first).is_closed() || first.next().await.is_none_or(|m| m.is_err())
        );
        answer(&mut second, Ok(Variant::from(1u32))).await;
    };
    let ask = async {
        let late = peer.bus.property::<u32>(UNIT, N_RESTARTS, soon()).await;
        assert!(matches!(late, Err(BusError::Late { .. })), "{late:?}");
        let value: u32 = peer.bus.property(UNIT, N_RESTARTS, later()).await.unwrap();
        assert_eq!(value, 1);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_call_that_is_abandoned_closes_its_connection() {
    let peer = peer();
    let serve = async {
        let mut first = peer.accept().await;
        first.next().await.unwrap().unwrap();
        drop(peer.accept().await);
    };
    let ask = async {
        let call = peer.bus.property::<u32>(UNIT, N_RESTARTS, later());
        let abandoned = tokio::time::timeout(Duration::from_millis(200), call).await;
        assert!(abandoned.is_err());
        peer.bus.connect(later()).await.unwrap();
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_peer_that_went_away_is_connected_to_anew() {
    let peer = peer();
    let (first, asked) = tokio::join!(peer.accept(), peer.bus.connect(later()));
    asked.unwrap();
    drop(first);
    let serve = async {
        let mut calls = peer.accept().await;
        answer(&mut calls, Ok(Variant::from(2u32))).await;
    };
    let ask = async {
        // Its end may not have been read yet: then one call meets it.
        let mut value = peer.bus.property::<u32>(UNIT, N_RESTARTS, later()).await;
        if matches!(value, Err(BusError::Lost { .. })) {
            value = peer.bus.property(UNIT, N_RESTARTS, later()).await;
        }
        assert_eq!(value.unwrap(), 2);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn many_callers_at_once_share_one_connection() {
    let peer = peer();
    let serve = async {
        let mut calls = peer.accept().await;
        for _ in 0..20 {
            answer(&mut calls, Ok(Variant::from(3u32))).await;
        }
    };
    let asks = (0..20).map(|_| {
        let bus = peer.bus.clone();
        async move { bus.property::<u32>(UNIT, N_RESTARTS, later()).await }
    });
    let (_, values) = tokio::join!(serve, futures_util::future::join_all(asks));
    assert!(values.into_iter().all(|value| value.unwrap() == 3));
    let more = tokio::time::timeout(Duration::from_millis(50), peer.listener.accept());
    assert!(more.await.is_err());
}

#[tokio::test]
async fn units_are_read_from_the_lists_that_systemd_sends() {
    let peer = peer();
    let object = |path| ObjectPath::try_from(path).unwrap();
    let path = "/org/freedesktop/systemd1/unit/a_2eservice";
    let listed = vec![(
        "a.service",
        "A",
        "loaded",
        "failed",
        "failed",
        "",
        object(path),
        0u32,
        "",
        object("/"),
    )];
    let serve = async {
        let mut calls = peer.accept().await;
        for method in ["ListUnits", "ListUnitsByPatterns"] {
            let call = calls.next().await.unwrap().unwrap();
            assert_eq!(call.header().member().unwrap().as_str(), method);
            let connection = Connection::from(&calls);
            connection.reply(&call.header(), &listed).await.unwrap();
        }
    };
    let ask = async {
        let session = Systemd1::new(peer.bus.clone()).open(later()).await.unwrap();
        let units = session.units().await.unwrap();
        assert_eq!(units, session.units_like(&["a.*"]).await.unwrap());
        let [unit] = units.as_slice() else {
            panic!("{units:?}");
        };
        assert_eq!(
            (
                unit.name.as_str(),
                unit.load_state.as_str(),
                unit.active_state.as_str()
            ),
            ("a.service", "loaded", "failed")
        );
        assert_eq!(unit.path, path);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn no_socket_is_unreachable() {
    let bus = Bus::at("unix:path=/nonexistent/bus");
    let error = bus.connect(later()).await.unwrap_err();
    assert!(matches!(error, BusError::Connect { .. }), "{error:?}");
    assert!(error.is_unreachable());
}

#[test]
fn an_address_is_its_first_unix_socket() {
    let socket = |path: &str| Place::Socket(path.into());
    for (text, expected) in [
        ("unix:path=/run/bus", socket("/run/bus")),
        ("tcp:host=a,port=1;unix:path=/run/b%20c", socket("/run/b c")),
        ("unix:abstract=x", Place::Abstract(b"x".to_vec())),
        (
            "tcp:host=a,port=1",
            Place::Unusable("tcp:host=a,port=1".into()),
        ),
        ("unix:guid=0,path=/a", socket("/a")),
        ("unix:path=/a%2", Place::Unusable("unix:path=/a%2".into())),
        ("unix:path=/a%zz;unix:path=/b", socket("/b")),
        ("nonsense", Place::Unusable("nonsense".into())),
    ] {
        assert_eq!(place(text), expected, "{text}");
    }
}
