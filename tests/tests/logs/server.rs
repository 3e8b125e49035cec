//! An aggregator that keeps the id of each chunk and acknowledges only when it is told to.

use rmpv::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A chunk as it arrived: its id and its packed entries.
pub type Chunk = (String, Vec<u8>);

#[derive(Default)]
struct Shared {
    chunks: Mutex<Vec<Chunk>>,
    acknowledges: AtomicBool,
}

/// Ends with the test's process.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Withholds acks at first.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = theirs.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Server { address, shared }
    }

    pub fn acknowledge(&self) {
        self.shared.acknowledges.store(true, Ordering::SeqCst);
    }

    pub fn chunks(&self) -> Vec<Chunk> {
        self.shared.chunks.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut reader = stream.try_clone().unwrap();
    while let Ok(frame) = rmpv::decode::read_value(&mut reader) {
        let parts = frame.as_array().expect("a frame is an array");
        let entries = parts[1].as_slice().expect("the agent sends PackedForward");
        let option = parts[2].as_map().expect("an option is a map");
        let chunk = option.iter().find(|(key, _)| key.as_str() == Some("chunk"));
        let id = chunk.expect("an ack is asked for").1.clone();
        let seen = (id.as_str().unwrap().to_owned(), entries.to_vec());
        shared.chunks.lock().unwrap().push(seen);
        if shared.acknowledges.load(Ordering::SeqCst) {
            let ack = Value::Map(vec![("ack".into(), id)]);
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &ack).unwrap();
            let _ = stream.write_all(&bytes);
        }
    }
}
