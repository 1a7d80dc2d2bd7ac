//! Packets as they come, the longest of them cut.
//!
//! A client that does not take a message loses its connection, and with the next one the broker
//! hands it the same again; a robot that does not hear that its message was taken sends it again.
//! So what is too long is taken and acknowledged as anything is, but only its beginning is kept.

use std::mem;

use bytes::{Buf, BytesMut};
use rumqttc::{Codec, Error, Packet};
use tokio_util::codec::{Decoder, Encoder};

/// The kind of a packet that brings a message, in the upper half of its first byte.
const PUBLISH: u8 = 3;
/// The most digits that a packet's length has, and the longest packet.
const DIGITS: usize = 4;
const LONGEST: usize = 268_435_455;

/// Reads and writes packets.
#[derive(Debug)]
pub struct Cut {
    codec: Codec,
    /// What a message's packet is cut to.
    most: usize,
    /// How much of the packet that is being read is cut off.
    excess: usize,
    /// How much is thrown away before the next packet begins.
    skip: usize,
}

impl Cut {
    /// Cuts messages after so many bytes of their packet, their topic's among them.
    pub fn new(most: usize) -> Self {
        Self {
            codec: Codec {
                max_incoming_size: most,
                max_outgoing_size: LONGEST,
            },
            most,
            excess: 0,
            skip: 0,
        }
    }

    /// Says in a packet's own words that it is shorter, if it is too long.
    fn shorten(&mut self, bytes: &mut BytesMut) {
        let Some((kind, rest)) = bytes.split_first_mut() else {
            return;
        };
        if *kind >> 4 != PUBLISH {
            return;
        }
        let Some((length, digits)) = length(rest).filter(|(length, _)| *length > self.most) else {
            return;
        };
        self.excess = length - self.most;
        // As many digits as there were: nothing has to move.
        for (place, digit) in rest[..digits].iter_mut().enumerate() {
            let more = if place + 1 < digits { 0x80 } else { 0 };
            *digit = (self.most >> (7 * place) & 0x7f) as u8 | more;
        }
    }
}

/// A packet's length, and how many digits it has; nothing while they are not all there, or where
/// there are too many.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (place, digit) in bytes.iter().take(DIGITS).enumerate() {
        length |= usize::from(digit & 0x7f) << (7 * place);
        if digit & 0x80 == 0 {
            return Some((length, place + 1));
        }
    }
    None
}

impl Decoder for Cut {
    type Item = Packet;
    type Error = Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, Error> {
        let skipped = self.skip.min(bytes.len());
        bytes.advance(skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return Ok(None);
        }
        if self.excess == 0 {
            self.shorten(bytes);
        }
        let packet = self.codec.decode(bytes)?;
        if packet.is_some() {
            self.skip = mem::take(&mut self.excess);
        }
        Ok(packet)
    }
}

impl Encoder<Packet> for Cut {
    type Error = Error;

    fn encode(&mut self, packet: Packet, bytes: &mut BytesMut) -> Result<(), Error> {
        self.codec.encode(packet, bytes)
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::{Publish, QoS};

    use super::*;

    const MOST: usize = 1000;

    fn message(bytes: usize, id: u16) -> Packet {
        let mut message = Publish::new("a/b", QoS::AtLeastOnce, vec![b'x'; bytes]);
        message.pkid = id;
        Packet::Publish(message)
    }

    fn written(packets: &[Packet]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.write(&mut bytes, usize::MAX).unwrap();
        }
        bytes
    }

    /// What is read, in pieces of so many bytes: each message's number and length.
    fn read(all: &[u8], piece: usize) -> Vec<(u16, usize)> {
        let (mut cut, mut bytes, mut read) = (Cut::new(MOST), BytesMut::new(), Vec::new());
        for part in all.chunks(piece) {
            bytes.extend_from_slice(part);
            while let Some(packet) = cut.decode(&mut bytes).unwrap() {
                let Packet::Publish(message) = packet else {
                    panic!("{packet:?}");
                };
                assert_eq!(message.topic, "a/b");
                read.push((message.pkid, message.payload.len()));
            }
            assert!(bytes.capacity() < 3 * (MOST + piece), "held no more");
        }
        assert!(bytes.is_empty());
        read
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_follows_is_whole() {
        // The packet's length counts the topic with its length, and the number.
        let around = 2 + "a/b".len() + 2;
        let sizes = [0, 10, MOST - around, MOST - around + 1, 20_000, 3_000_000];
        let numbered = sizes.iter().zip(1u16..);
        let packets: Vec<Packet> = numbered.map(|(size, id)| message(*size, id)).collect();
        let all = written(&packets);
        let cut = MOST - around;
        let expected: Vec<(u16, usize)> = (1u16..).zip(sizes.map(|size| size.min(cut))).collect();
        for piece in [7, 4096, all.len()] {
            assert_eq!(read(&all, piece), expected);
        }
    }

    #[test]
    fn only_messages_are_cut() {
        let mut bytes = BytesMut::from(&[0x90, 0xff, 0x7f][..]);
        let told = Cut::new(MOST).decode(&mut bytes);
        assert!(matches!(told, Err(Error::PayloadSizeLimitExceeded(16_383))));
    }
}
