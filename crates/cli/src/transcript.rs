//! What a command prints, passed on as it comes: as it is for people, in lines of JSON for scripts.

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, stderr, stdout},
    sync::Mutex,
};

use crate::{args::Output, show::Unread};

/// The most that one line of JSON carries.
const PIECE: usize = 32 * 1024;

/// A line of the JSON form.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
enum Line<'a> {
    /// Output that is text.
    Text { stream: &'a str, text: &'a str },
    /// Output that is not UTF-8, so that no byte is lost.
    Bytes { stream: &'a str, base64: String },
    /// The end of the command.
    #[serde(rename_all = "camelCase")]
    End { exit_code: i32 },
}

impl<'a> Line<'a> {
    fn of(stream: &'a str, piece: &'a [u8]) -> Line<'a> {
        match std::str::from_utf8(piece) {
            Ok(text) => Line::Text { stream, text },
            Err(_) => Line::Bytes {
                stream,
                base64: STANDARD.encode(piece),
            },
        }
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Passes on both streams until they end.
pub(crate) async fn pass_on(
    mut out: impl AsyncRead + Unpin,
    mut err: impl AsyncRead + Unpin,
    output: Output,
) -> Result<()> {
    let passed = match output {
        Output::Text => {
            let (mut to, mut to_err) = (stdout(), stderr());
            let passed = tokio::try_join!(copy(&mut out, &mut to), copy(&mut err, &mut to_err));
            let passed = match passed {
                Ok(_) => to.flush().await,
                Err(error) => Err(error),
            };
            passed.map_err(Unread::or)
        }
        Output::Json => {
            // A line is written whole, whichever stream it tells of.
            let to = Mutex::new(stdout());
            tokio::try_join!(lines("stdout", out, &to), lines("stderr", err, &to)).map(|_| ())
        }
    };
    passed.map_err(|error| match error.is::<Unread>() {
        true => error,
        false => error.context("the output could not be passed on"),
    })
}

async fn lines(
    stream: &str,
    mut from: impl AsyncRead + Unpin,
    to: &Mutex<impl AsyncWrite + Unpin>,
) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        let line = Line::of(stream, &piece[..length]).bytes()?;
        let mut to = to.lock().await;
        to.write_all(&line).await.map_err(Unread::or)?;
        to.flush().await.map_err(Unread::or)?;
    }
}

/// Says in JSON how the command ended; people see their shell's `$?`.
pub(crate) async fn end(exit_code: i32, output: Output) -> Result<()> {
    if output == Output::Json {
        let mut to = stdout();
        let line = Line::End { exit_code }.bytes()?;
        to.write_all(&line).await.map_err(Unread::or)?;
        to.flush().await.map_err(Unread::or)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: &Line) -> String {
        String::from_utf8(line.bytes().unwrap()).unwrap()
    }

    #[test]
    fn output_is_text_where_it_can_be_and_base64_where_not() {
        assert_eq!(
            line(&Line::of("stdout", "grün\n".as_bytes())),
            "{\"event\":\"text\",\"stream\":\"stdout\",\"text\":\"grün\\n\"}\n"
        );
        assert_eq!(
            line(&Line::of("stderr", b"\xff\x00")),
            "{\"event\":\"bytes\",\"stream\":\"stderr\",\"base64\":\"/wA=\"}\n"
        );
    }

    #[test]
    fn the_end_has_the_exit_code() {
        assert_eq!(
            line(&Line::End { exit_code: 137 }),
            "{\"event\":\"end\",\"exitCode\":137}\n"
        );
    }
}
