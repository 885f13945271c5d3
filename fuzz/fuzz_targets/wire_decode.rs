//! Any bytes give a message or an error: `cargo +nightly fuzz run wire_decode`.
//!
//! The first two bytes are the tag; the rest is the payload, and its second half is block 0 as well, so that ranges
//! have something to point to. `crates/wire/tests/roundtrip.rs` replays the corpus in the same way on stable.
#![no_main]

use breakeven_wire::{Message, Reader, Token, WireError};
use libfuzzer_sys::fuzz_target;

fn skip(reader: &mut Reader<'_, [&[u8]]>) -> Result<(), WireError> {
    let items = match reader.token()? {
        Token::Tuple(n) | Token::List(n) => n,
        Token::Dict(n) => 2 * n,
        Token::Rows(rows, lengths, elements) => {
            let each = rows.element.bytes();
            assert_eq!(lengths.rows() as u64, rows.rows, "the reader has checked the columns");
            assert_eq!(elements.len() * each, elements.bytes().len());
            for row in (0..lengths.rows()).step_by(7) {
                let part = lengths.part(row, 7);
                assert_eq!(part.get(0), lengths.get(row));
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    reader.enter()?;
    for _ in 0..items {
        skip(reader)?;
    }
    reader.leave();
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let Some((tag, payload)) = data.split_first_chunk::<2>() else { return };
    let blocks: &[&[u8]] = &[&payload[payload.len() / 2..]];
    match Message::read(u16::from_le_bytes(*tag), payload, blocks) {
        Ok(Message::Value(mut reader)) => {
            let _ = skip(&mut reader).and_then(|()| reader.finish());
        }
        Ok(Message::Pickle(pickle)) => {
            for range in pickle.buffers() {
                assert!(range.resolve(blocks).is_ok(), "the reader has checked this range");
            }
        }
        Ok(Message::Raw(_)) | Err(_) => {}
    }
});
