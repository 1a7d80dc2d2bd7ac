//! The compressed headers of SPDY/3.1.
//!
//! Both directions are one zlib stream each for the whole connection, primed with a
//! dictionary that the protocol prescribes.

use std::collections::BTreeMap;
use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::frame::wrong;

/// The dictionary of the protocol's section 2.6.10.1.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// Headers that say more than this are not for us.
const LARGEST: usize = 64 * 1024;

/// Headers by their names, which are in lower case.
pub(crate) type Headers = BTreeMap<String, String>;

/// Reads the headers of one direction.
pub(super) struct Reader(Decompress);

impl Reader {
    pub(super) fn new() -> Self {
        Reader(Decompress::new(true))
    }

    /// The headers in a block, however small it was compressed.
    pub(super) fn read(&mut self, mut block: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(1024);
        while !block.is_empty() {
            let before = (self.0.total_in(), plain.len());
            match self
                .0
                .decompress_vec(block, &mut plain, FlushDecompress::Sync)
            {
                Err(error) if error.needs_dictionary().is_some() => {
                    let known = self.0.set_dictionary(DICTIONARY);
                    known.map_err(|_| wrong("headers with another dictionary"))?;
                }
                Err(_) => return Err(wrong("headers that cannot be decompressed")),
                Ok(_) => {}
            }
            // Both are bounded by what is in memory.
            let taken = (self.0.total_in() - before.0) as usize;
            block = block.get(taken..).unwrap_or_default();
            if plain.len() > LARGEST {
                return Err(wrong("too many headers"));
            }
            if plain.len() == plain.capacity() {
                plain.reserve(1024);
            } else if taken == 0 && plain.len() == before.1 && !block.is_empty() {
                return Err(wrong("headers that do not end"));
            }
        }
        parse(&plain)
    }
}

fn parse(mut plain: &[u8]) -> io::Result<Headers> {
    let count = number(&mut plain)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let (name, value) = (text(&mut plain)?, text(&mut plain)?);
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Ok(headers)
}

fn number(plain: &mut &[u8]) -> io::Result<usize> {
    let (bytes, rest) = plain
        .split_first_chunk::<4>()
        .ok_or_else(|| wrong("headers that are cut short"))?;
    *plain = rest;
    Ok(u32::from_be_bytes(*bytes) as usize)
}

fn text(plain: &mut &[u8]) -> io::Result<String> {
    let length = number(plain)?;
    let cut = plain
        .split_at_checked(length)
        .ok_or_else(|| wrong("headers that are cut short"))?;
    *plain = cut.1;
    String::from_utf8(cut.0.to_vec()).map_err(|_| wrong("headers that are not UTF-8"))
}

/// Writes the headers of one direction.
pub(super) struct Writer(Compress);

impl Writer {
    pub(super) fn new() -> io::Result<Self> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(DICTIONARY)
            .map_err(io::Error::other)?;
        Ok(Writer(compress))
    }

    /// A block of these headers.
    pub(super) fn write(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        // Both are small: we make them.
        plain.extend((headers.len() as u32).to_be_bytes());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 128);
        let mut rest = plain.as_slice();
        loop {
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, &mut block, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            rest = rest
                .get((self.0.total_in() - before) as usize..)
                .unwrap_or_default();
            if rest.is_empty() && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(128);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_written_is_read_block_after_block() {
        let (mut writer, mut reader) = (Writer::new().unwrap(), Reader::new());
        let long = "x".repeat(5000);
        for block in [
            headers(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
            headers(&[]),
            headers(&[("streamtype", "error"), ("long", &long)]),
        ] {
            assert_eq!(reader.read(&writer.write(&block).unwrap()).unwrap(), block);
        }
    }

    #[test]
    fn a_block_that_zlib_wrote_is_read() {
        assert_eq!(
            Reader::new().read(WRITTEN_BY_ZLIB).unwrap(),
            headers(&[("streamtype", "error")])
        );
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = headers(&[("x", &"0".repeat(2 << 20))]);
        let block = Writer::new().unwrap().write(&bomb).unwrap();
        assert!(block.len() < 64 * 1024, "it would fit into a frame");
        Reader::new().read(&block).unwrap_err();
    }

    #[test]
    fn garbage_is_refused() {
        for garbage in [
            &b"\x78\xbb\xe3\xc6\xa7\xc2\xff\xff"[..],
            b"hello",
            &[0; 100],
        ] {
            Reader::new().read(garbage).unwrap_err();
        }
    }

    /// `streamtype: error`, compressed with the dictionary by the C library.
    const WRITTEN_BY_ZLIB: &[u8] = &[
        0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0xa6, 0x23, 0x46, 0x70, 0x3a, 0x2b, 0x29, 0x4a,
        0x4d, 0xcc, 0x85, 0x16, 0x25, 0xac, 0xa9, 0xa0, 0x80, 0x06, 0x00, 0x00, 0x00, 0xff, 0xff,
    ];
}
