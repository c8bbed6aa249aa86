//! The upstream: says what it was made to say, as fast as it can, in one write for each event.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::BoxError;
use crate::calls::{Call, KIND, Kind};

/// An answer as it goes over the wire.
struct Answer {
    marker: String,
    kind: Kind,
    writes: Vec<Vec<u8>>,
}

impl Answer {
    fn new(kind: Kind) -> Self {
        let call = Call::new(kind);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\n", call.content_type);
        let writes = if kind == Kind::Plain {
            let length = call.answer.len();
            let head = format!("{head}content-length: {length}\r\n\r\n");
            vec![[head.as_bytes(), &call.answer].concat()]
        } else {
            let mut writes = vec![format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes()];
            for piece in &call.pieces {
                let length = format!("{:x}\r\n", piece.len());
                writes.push([length.as_bytes(), piece, b"\r\n"].concat());
            }
            if kind == Kind::Stream {
                writes.push(b"0\r\n\r\n".to_vec());
            }
            writes
        };
        Self {
            marker: format!("\r\n{KIND}: {}\r\n", kind.as_str()),
            kind,
            writes,
        }
    }
}

pub(crate) async fn serve() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::announce(listener.local_addr()?)?;
    let answers: Arc<[Answer]> = Kind::ALL.map(Answer::new).into();
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            // A client that leaves is no failure; one that was not answered notices it.
            let _ = converse(stream, &answers).await;
        });
    }
}

/// Answers one request after another.
async fn converse(mut stream: TcpStream, answers: &[Answer]) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let Some(kind) = request(&mut stream, &mut read, answers).await? else {
            return Ok(());
        };
        let answer = answers.iter().find(|answer| answer.kind == kind).unwrap();
        for bytes in &answer.writes {
            stream.write_all(bytes).await?;
            // Others have their turn, so that events of several streams come mixed.
            if answer.writes.len() > 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Reads a request to its end.
async fn request(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    answers: &[Answer],
) -> Result<Option<Kind>, BoxError> {
    read.clear();
    loop {
        read.reserve(4 * 1024);
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
        let Some(head) = memchr::memmem::find(read, b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&read[..head + 2])?.to_ascii_lowercase();
        let length = text
            .split_once("\r\ncontent-length: ")
            .and_then(|(_, rest)| rest.split_once("\r\n"))
            .ok_or("a request without its length")?;
        let whole = head + 4 + length.0.parse::<usize>()?;
        while read.len() < whole {
            if stream.read_buf(read).await? == 0 {
                return Ok(None);
            }
        }
        let asked = answers.iter().find(|answer| text.contains(&answer.marker));
        return Ok(Some(asked.ok_or("a request of no known kind")?.kind));
    }
}
