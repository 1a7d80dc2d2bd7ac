//! Readers that count, hash and say when it is enough.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::LayerError;
use crate::images::reference::Digest;

/// A dictionary of at most 128 MiB: what packers use, and no more memory than that.
const ZSTD_WINDOW: u32 = 27;

/// What has passed through a [`Metered`] reader.
#[derive(Default)]
pub(super) struct Meter {
    hash: Sha256,
    pub(super) bytes: u64,
}

impl Meter {
    /// The digest of all that has passed.
    pub(super) fn digest(&self) -> Digest {
        Digest::from_hash(&self.hash.clone().finalize())
    }
}

/// A reader that counts and hashes, up to a limit.
pub(super) struct Metered<R> {
    inner: R,
    meter: Rc<RefCell<Meter>>,
    most: u64,
    too_much: fn(u64) -> LayerError,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(
        inner: R,
        most: u64,
        too_much: fn(u64) -> LayerError,
    ) -> (Metered<R>, Rc<RefCell<Meter>>) {
        let meter = Rc::new(RefCell::new(Meter::default()));
        (
            Metered {
                inner,
                meter: meter.clone(),
                most,
                too_much,
            },
            meter,
        )
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut meter = self.meter.borrow_mut();
        meter.bytes += count as u64;
        if meter.bytes > self.most {
            return Err((self.too_much)(self.most).carried());
        }
        meter.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Unpacks by what the bytes say they are: gzip, zstd or nothing.
pub(super) fn unpacked<'a>(packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut packed = BufReader::with_capacity(64 << 10, packed);
    let start = packed.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        // A frame, or one of the frames that are to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        _ => Box::new(packed),
    })
}

/// A reader that is only let read so much at a time: the tar reader takes names and attributes
/// into memory, however long an archive says they are.
pub(crate) struct Rationed<R> {
    inner: R,
    ration: Rc<Cell<u64>>,
    of: u64,
}

/// A file's headers may be so long together, long names and attributes included.
pub(crate) const HEADERS: u64 = 1 << 20;

impl<R: Read> Rationed<R> {
    pub(super) fn new(inner: R) -> (Rationed<R>, Rc<Cell<u64>>) {
        let ration = Rc::new(Cell::new(HEADERS));
        (
            Rationed {
                inner,
                ration: ration.clone(),
                of: HEADERS,
            },
            ration,
        )
    }
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.ration.get();
        if left == 0 && !buffer.is_empty() {
            return Err(LayerError::Headers(self.of).carried());
        }
        let room = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..room])?;
        self.ration.set(left - count as u64);
        Ok(count)
    }
}

/// An archive that is not a layer, ready for the tar reader.
pub(crate) struct Plain<'a> {
    pub(crate) reader: Rationed<Box<dyn Read + 'a>>,
    pub(crate) ration: Rc<Cell<u64>>,
}

/// Unpacks what is packed, and rations it.
pub(crate) fn plain<'a>(archive: impl Read + 'a) -> io::Result<Plain<'a>> {
    let (reader, ration) = Rationed::new(unpacked(archive)?);
    Ok(Plain { reader, ration })
}
