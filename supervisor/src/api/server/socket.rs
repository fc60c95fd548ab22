//! A socket that notices when bytes come and when the client takes none.
//!
//! It begins with the bytes that were read before hyper came into play.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::alarm::Alarm;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Socket<IO> {
    /// Read already, to be read again.
    first: Bytes,
    stream: IO,
    activity: Arc<Activity>,
    /// How long a write may be stuck.
    stall_timeout: Duration,
    stalled: Alarm,
}

impl<IO> Socket<IO> {
    pub(super) fn new(
        first: Bytes,
        stream: IO,
        activity: Arc<Activity>,
        stall_timeout: Duration,
    ) -> Self {
        Self { first, stream, activity, stall_timeout, stalled: Alarm::default() }
    }

    pub(super) fn into_stream(self) -> IO {
        self.stream
    }

    /// Passes on how a write went, unless it has been stuck for too long.
    fn written<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.activity.stuck(written.is_pending());
        if written.is_ready() {
            self.stalled.clear();
            return written;
        }
        if !self.stalled.is_set() {
            self.stalled.set(self.stall_timeout);
        }
        ready!(self.stalled.poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Socket<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.first.has_remaining() {
            let count = self.first.remaining().min(buf.remaining());
            buf.put_slice(&self.first.split_to(count));
        } else {
            self.first = Bytes::new();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        if buf.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Socket<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::super::activity::Phase;
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    fn socket(first: &'static [u8]) -> (Socket<DuplexStream>, DuplexStream, Arc<Activity>) {
        let (client, server) = duplex(64);
        let activity = Arc::new(Activity::default());
        let first = Bytes::from_static(first);
        (Socket::new(first, server, Arc::clone(&activity), STALL), client, activity)
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (mut socket, mut client, activity) = socket(b"abc");
        client.write_all(b"def").await.unwrap();
        assert_eq!(activity.now().phase(), Phase::Idle);
        let mut read = [0; 2];
        for expected in [b"ab", b"c\0"] {
            read.fill(0);
            let count = socket.read(&mut read).await.unwrap();
            assert_eq!((&read, count), (expected, if expected == b"ab" { 2 } else { 1 }));
        }
        let mut rest = [0; 3];
        socket.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"def");
        assert_eq!(activity.now().phase(), Phase::Head);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_has_stalled() {
        let (mut socket, _client, activity) = socket(b"");
        let start = Instant::now();
        let error = socket.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), STALL.as_secs());
        assert_eq!(activity.now().phase(), Phase::Busy, "bytes are left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_has_not() {
        let (mut socket, mut client, activity) = socket(b"");
        let reading = tokio::spawn(async move {
            let mut all = 0;
            while all < 1000 {
                sleep(STALL / 2).await;
                all += client.read(&mut [0; 64]).await.unwrap();
            }
        });
        let start = Instant::now();
        socket.write_all(&[0; 1000]).await.unwrap();
        assert!(start.elapsed() > 5 * STALL);
        assert_eq!(activity.now().phase(), Phase::Idle, "nothing is left");
        reading.await.unwrap();
    }
}
