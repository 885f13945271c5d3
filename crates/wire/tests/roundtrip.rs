//! What is written is what is read, and nothing that is read can do harm.

use breakeven_wire::{
    Body, BufferRange, Element, ElementKind, Kind, LengthWidth, MAX_DEPTH, Message, Packed, PackedItems, Reader,
    RowKind, RowLengths, Rows, SPILLED, Sequence, Token, Width, WireError, Writer, flag_from_byte, flag_to_byte,
    pickle_header, pickle_header_len, spilled_payload,
};
use proptest::prelude::*;

/// A value as a tree: the reference that reader and writer are held against.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    None,
    Bool(bool),
    Int(i64),
    Wide(i128),
    Float(u64), // as bits: NaN must keep its payload
    Str(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Tree>),
    List(Vec<Tree>),
    Dict(Vec<(Tree, Tree)>),
    Range(i64, i64, i64),
    Ints(bool, Vec<i64>),
    Floats(bool, Vec<u64>),
    Flags(bool, Vec<Option<bool>>),
    /// Container of the rows, bytes of each.
    Texts(bool, Vec<Vec<u8>>),
    /// Container of the rows, container of each, ints of each.
    Rows(bool, bool, Vec<Vec<i64>>),
}

fn sequence(tuple: bool) -> Sequence {
    if tuple { Sequence::Tuple } else { Sequence::List }
}

fn put<E: Element + AsRef<[u8]>>(space: &mut [u8], values: &[i64]) {
    let size = space.len() / values.len().max(1);
    for (slot, &value) in space.chunks_exact_mut(size.max(1)).zip(values) {
        slot.copy_from_slice(E::narrow(value).expect("the width was chosen for it").as_ref());
    }
}

fn row_header(tuple: bool, row: RowKind, element: ElementKind, lengths: &[usize]) -> Rows {
    let elements = lengths.iter().sum::<usize>();
    let uniform = elements > 0 && lengths.iter().all(|&len| len == lengths[0]);
    let longest = lengths.iter().max().map_or(0, |&len| len as u32);
    let length = if uniform { LengthWidth::Uniform } else { LengthWidth::for_longest(longest) };
    let rows = lengths.len() as u64;
    Rows { element, row, sequence: sequence(tuple), length, rows, elements: elements as u64, lazy: false }
}

/// Writes rows; `elements` gives the bytes of the column of elements.
fn put_rows(
    writer: &mut Writer<'_>,
    header: Rows,
    lengths: &[usize],
    elements: impl IntoIterator<Item = u8>,
) -> Result<(), WireError> {
    let space = writer.rows(header)?;
    let lengths = lengths.iter().flat_map(|len| len.to_le_bytes().into_iter().take(header.length.bytes()));
    let bytes = lengths.chain(elements).collect::<Vec<_>>();
    space.copy_from_slice(&bytes);
    Ok(())
}

fn write(tree: &Tree, writer: &mut Writer<'_>) -> Result<(), WireError> {
    match tree {
        Tree::None => writer.none(),
        Tree::Bool(v) => writer.bool(*v),
        Tree::Int(v) => writer.int(*v),
        Tree::Wide(v) => writer.wide_int(*v),
        Tree::Float(bits) => writer.float(f64::from_bits(*bits)),
        Tree::Str(v) => writer.str(v),
        Tree::Bytes(v) => writer.bytes(v),
        Tree::Tuple(items) => {
            writer.tuple(items.len())?;
            items.iter().try_for_each(|item| write(item, writer))
        }
        Tree::List(items) => {
            writer.list(items.len())?;
            items.iter().try_for_each(|item| write(item, writer))
        }
        Tree::Dict(items) => {
            writer.dict(items.len())?;
            items.iter().try_for_each(|(key, value)| {
                write(key, writer)?;
                write(value, writer)
            })
        }
        Tree::Range(a, b, c) => writer.range(*a, *b, *c),
        Tree::Ints(tuple, values) => {
            let (min, max) = values.iter().fold((0, 0), |(lo, hi), &v| (v.min(lo), v.max(hi)));
            let width = Width::for_range(min, max);
            let packed = Packed {
                element: ElementKind::Int(width),
                sequence: sequence(*tuple),
                count: values.len() as u64,
                lazy: false,
            };
            let space = writer.packed(packed)?;
            match width {
                Width::W1 => {
                    for (slot, &v) in space.iter_mut().zip(values) {
                        *slot = u8::narrow(v).expect("the width was chosen for it");
                    }
                }
                Width::W2 => put::<[u8; 2]>(space, values),
                Width::W4 => put::<[u8; 4]>(space, values),
                Width::W8 => put::<[u8; 8]>(space, values),
            }
            Ok(())
        }
        Tree::Floats(tuple, values) => {
            let packed = Packed {
                element: ElementKind::Float,
                sequence: sequence(*tuple),
                count: values.len() as u64,
                lazy: false,
            };
            let space = writer.packed(packed)?;
            for (slot, &bits) in space.chunks_exact_mut(8).zip(values) {
                slot.copy_from_slice(&bits.to_le_bytes());
            }
            Ok(())
        }
        Tree::Flags(tuple, values) => {
            let packed = Packed {
                element: ElementKind::Flag,
                sequence: sequence(*tuple),
                count: values.len() as u64,
                lazy: true,
            };
            for (slot, &flag) in writer.packed(packed)?.iter_mut().zip(values) {
                *slot = flag_to_byte(flag);
            }
            Ok(())
        }
        Tree::Texts(tuple, texts) => {
            let lengths = texts.iter().map(Vec::len).collect::<Vec<_>>();
            let header = row_header(*tuple, RowKind::Bytes, ElementKind::BYTE, &lengths);
            put_rows(writer, header, &lengths, texts.iter().flatten().copied())
        }
        Tree::Rows(tuple, inner, rows) => {
            let lengths = rows.iter().map(Vec::len).collect::<Vec<_>>();
            let width = rows.iter().flatten().fold(Width::W1, |width, &v| width.max(Width::for_range(v, v)));
            let header = row_header(*tuple, RowKind::Items(sequence(*inner)), ElementKind::Int(width), &lengths);
            let elements = rows.iter().flatten().flat_map(|v| v.to_le_bytes().into_iter().take(width.bytes()));
            put_rows(writer, header, &lengths, elements)
        }
    }
}

fn read<'a>(reader: &mut Reader<'a, [Vec<u8>]>) -> Result<Tree, WireError> {
    Ok(match reader.token()? {
        Token::None => Tree::None,
        Token::Bool(v) => Tree::Bool(v),
        Token::Int(v) => Tree::Int(v),
        Token::WideInt(v) => Tree::Wide(v),
        Token::Float(v) => Tree::Float(v.to_bits()),
        Token::Str(v) => Tree::Str(v.into()),
        Token::Bytes(v) => Tree::Bytes(v.into()),
        Token::Tuple(n) => Tree::Tuple(items(reader, n)?),
        Token::List(n) => Tree::List(items(reader, n)?),
        Token::Dict(n) => {
            let flat = items(reader, 2 * n)?;
            Tree::Dict(flat.chunks_exact(2).map(|kv| (kv[0].clone(), kv[1].clone())).collect())
        }
        Token::Range(a, b, c) => Tree::Range(a, b, c),
        Token::Packed(packed, values) => {
            let tuple = packed.sequence == Sequence::Tuple;
            match values {
                PackedItems::F64(v) => Tree::Floats(tuple, v.iter().map(|x| u64::from_le_bytes(*x)).collect()),
                PackedItems::Flags(v) => {
                    Tree::Flags(tuple, v.iter().map(|&x| flag_from_byte(x)).collect::<Result<_, _>>()?)
                }
                ints => Tree::Ints(tuple, widened(ints)),
            }
        }
        Token::Rows(rows, lengths, elements) => {
            let tuple = rows.sequence == Sequence::Tuple;
            match (rows.row, elements) {
                (RowKind::Items(inner), PackedItems::F64(_) | PackedItems::Flags(_)) => {
                    // The trees have none; damage may make some.
                    let elements = elements.bytes().chunks_exact(rows.element.bytes()).map(|_| 0).collect::<Vec<_>>();
                    Tree::Rows(tuple, inner == Sequence::Tuple, cut(lengths, &elements)?)
                }
                (RowKind::Items(inner), ints) => {
                    Tree::Rows(tuple, inner == Sequence::Tuple, cut(lengths, &widened(ints))?)
                }
                (_, bytes) => Tree::Texts(tuple, cut(lengths, bytes.bytes())?),
            }
        }
    })
}

fn widened(ints: PackedItems<'_>) -> Vec<i64> {
    match ints {
        PackedItems::I8(v) => v.iter().map(|x| x.widen()).collect(),
        PackedItems::I16(v) => v.iter().map(|x| x.widen()).collect(),
        PackedItems::I32(v) => v.iter().map(|x| x.widen()).collect(),
        PackedItems::I64(v) => v.iter().map(|x| x.widen()).collect(),
        PackedItems::F64(_) | PackedItems::Flags(_) => unreachable!("no ints"),
    }
}

/// Rows of `elements`, as a consumer cuts them: in parts of three rows.
fn cut<T: Clone>(lengths: RowLengths<'_>, elements: &[T]) -> Result<Vec<Vec<T>>, WireError> {
    let (mut rest, mut rows) = (elements, Vec::new());
    let mut part = lengths.part(0, 3);
    while part.rows() > 0 {
        for index in 0..part.rows() {
            let len = part.get(index);
            let cut = WireError::Truncated { needed: len as u64, left: rest.len() as u64 };
            let (row, left) = rest.split_at_checked(len).ok_or(cut)?;
            rows.push(row.to_vec());
            rest = left;
        }
        part = lengths.part(rows.len(), 3);
    }
    assert_eq!(rows.len(), lengths.rows());
    if rest.is_empty() { Ok(rows) } else { Err(WireError::TrailingBytes(rest.len() as u64)) }
}

fn items(reader: &mut Reader<'_, [Vec<u8>]>, n: usize) -> Result<Vec<Tree>, WireError> {
    reader.enter()?;
    // The reader has checked the count against the bytes that are left: this allocation is bounded by the input.
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        out.push(read(reader)?);
    }
    reader.leave();
    Ok(out)
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::None),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        any::<i8>().prop_map(|v| Tree::Int(v.into())),
        any::<i128>().prop_map(Tree::Wide),
        any::<u64>().prop_map(Tree::Float),
        ".{0,20}".prop_map(Tree::Str),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Tree::Bytes),
        (any::<i64>(), any::<i64>(), any::<i64>().prop_filter("step", |s| *s != 0))
            .prop_map(|(a, b, c)| Tree::Range(a, b, c)),
        (any::<bool>(), prop::collection::vec(any::<i8>().prop_map(i64::from), 0..20))
            .prop_map(|(t, v)| Tree::Ints(t, v)),
        (any::<bool>(), prop::collection::vec(any::<i64>(), 0..20)).prop_map(|(t, v)| Tree::Ints(t, v)),
        (any::<bool>(), prop::collection::vec(any::<i16>().prop_map(i64::from), 0..20))
            .prop_map(|(t, v)| Tree::Ints(t, v)),
        (any::<bool>(), prop::collection::vec(any::<u64>(), 0..20)).prop_map(|(t, v)| Tree::Floats(t, v)),
        (any::<bool>(), prop::collection::vec(any::<Option<bool>>(), 0..20)).prop_map(|(t, v)| Tree::Flags(t, v)),
        (any::<bool>(), prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..20))
            .prop_map(|(t, v)| Tree::Texts(t, v)),
        (any::<bool>(), prop::collection::vec(prop::collection::vec(any::<u8>(), 300..301), 0..3))
            .prop_map(|(t, v)| Tree::Texts(t, v)),
        (any::<bool>(), any::<bool>(), prop::collection::vec(prop::collection::vec(any::<i64>(), 0..4), 0..20))
            .prop_map(|(t, i, v)| Tree::Rows(t, i, v)),
        (any::<bool>(), any::<bool>(), prop::collection::vec(prop::collection::vec(-300i64..300, 3..4), 0..20))
            .prop_map(|(t, i, v)| Tree::Rows(t, i, v)),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::Tuple),
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Tree::Dict),
        ]
    })
}

/// Reads everything that there is to read in a message, as a consumer would.
fn consume(tag: u16, payload: &[u8], blocks: &[Vec<u8>]) -> Result<(), WireError> {
    match Message::read(tag, payload, blocks)? {
        Message::Raw(_) => Ok(()),
        Message::Value(mut reader) => {
            read(&mut reader)?;
            reader.finish()
        }
        Message::Pickle(pickle) => pickle.buffers().try_for_each(|range| range.resolve(blocks).map(|_| ())),
    }
}

const NO_BLOCKS: &[Vec<u8>] = &[];

proptest! {
    #[test]
    fn a_value_comes_back(tree in tree()) {
        let mut space = vec![0; 1 << 20];
        let mut writer = Writer::new(&mut space);
        write(&tree, &mut writer).unwrap();
        let len = writer.len();
        let mut reader = Reader::new(&space[..len], NO_BLOCKS);
        prop_assert_eq!(read(&mut reader).unwrap(), tree);
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_value_cut_short_is_an_error(tree in tree(), cut in any::<prop::sample::Index>()) {
        let mut space = vec![0; 1 << 20];
        let mut writer = Writer::new(&mut space);
        write(&tree, &mut writer).unwrap();
        let len = cut.index(writer.len());
        prop_assert!(consume(Kind::Value.tag(), &space[..len], NO_BLOCKS).is_err());
    }

    #[test]
    fn too_little_space_is_an_error(tree in tree(), cut in any::<prop::sample::Index>()) {
        let mut space = vec![0; 1 << 20];
        let mut writer = Writer::new(&mut space);
        write(&tree, &mut writer).unwrap();
        let len = cut.index(writer.len());
        prop_assert_eq!(write(&tree, &mut Writer::new(&mut space[..len])), Err(WireError::DoesNotFit));
    }

    #[test]
    fn garbage_is_read_to_its_end(tag in prop_oneof![0u16..4, SPILLED..SPILLED + 4, any::<u16>()],
                                  payload in prop::collection::vec(any::<u8>(), 0..200),
                                  blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..3)) {
        let _ = consume(tag, &payload, &blocks);
    }

    /// Damage to a good message gets further into the reader than garbage does.
    #[test]
    fn a_damaged_value_is_read_to_its_end(tree in tree(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut space = vec![0; 1 << 20];
        let mut writer = Writer::new(&mut space);
        write(&tree, &mut writer).unwrap();
        let len = writer.len();
        space[at.index(len)] = byte;
        let _ = consume(Kind::Value.tag(), &space[..len], NO_BLOCKS);
    }

    #[test]
    fn ranges_never_leave_their_block(block in 0u32..3, offset in any::<u64>(), len in any::<u64>(), size in 0usize..64) {
        let blocks = [vec![0u8; size], vec![0u8; size]];
        let range = BufferRange { block, offset, len };
        let inside = block < 2 && offset.checked_add(len).is_some_and(|end| end <= size as u64);
        prop_assert_eq!(range.resolve(blocks.as_slice()).is_ok(), inside);
    }

    #[test]
    fn a_pickle_and_its_buffers_come_back(stream in prop::collection::vec(any::<u8>(), 0..100),
                                          sizes in prop::collection::vec(0usize..50, 0..5), spilled in any::<bool>()) {
        let mut blocks: Vec<Vec<u8>> = sizes.iter().map(|&n| vec![7; n]).collect();
        let first = u32::from(spilled);
        let ranges: Vec<_> = sizes.iter().enumerate()
            .map(|(i, &n)| BufferRange { block: first + i as u32, offset: 0, len: n as u64 }).collect();
        let mut body = vec![0; pickle_header_len(ranges.len())];
        pickle_header(&mut body, &ranges).unwrap();
        body.extend_from_slice(&stream);
        let (tag, payload) = if spilled {
            let payload = spilled_payload(body.len() as u64).to_vec();
            blocks.insert(0, body);
            (Kind::Pickle.tag() | SPILLED, payload)
        } else {
            (Kind::Pickle.tag(), body)
        };
        let Message::Pickle(message) = Message::read(tag, &payload, blocks.as_slice()).unwrap() else { panic!() };
        prop_assert_eq!(message.stream, &stream[..]);
        prop_assert_eq!(message.buffer_count(), ranges.len());
        prop_assert_eq!(message.buffers().collect::<Vec<_>>(), ranges);
        // A range that ends one byte too late is refused when the message is read, not when somebody looks.
        if let Some(last) = blocks.last_mut().filter(|b| !sizes.is_empty() && !b.is_empty()) {
            last.pop();
            prop_assert!(Message::read(tag, &payload, blocks.as_slice()).is_err());
        }
    }
}

#[test]
fn far_pieces_come_from_their_block() {
    let text = "ä far text";
    let mut block = text.as_bytes().to_vec();
    block.extend_from_slice(&[1, 0, 2, 0]);
    let blocks = [block];
    let text_range = BufferRange { block: 0, offset: 0, len: text.len() as u64 };
    let ints = Packed { element: ElementKind::Int(Width::W2), sequence: Sequence::List, count: 2, lazy: false };
    let int_range = BufferRange { block: 0, offset: text.len() as u64, len: 4 };
    let mut space = [0; 200];
    let mut writer = Writer::new(&mut space);
    writer.tuple(3).unwrap();
    writer.str_far(text_range).unwrap();
    writer.bytes_far(int_range).unwrap();
    writer.packed_far(ints, int_range).unwrap();
    let len = writer.len();
    let mut reader = Reader::new(&space[..len], blocks.as_slice());
    assert_eq!(reader.token(), Ok(Token::Tuple(3)));
    assert_eq!(reader.token(), Ok(Token::Str(text)));
    assert_eq!(reader.token(), Ok(Token::Bytes(&[1, 0, 2, 0])));
    assert_eq!(reader.token(), Ok(Token::Packed(ints, PackedItems::I16(&[[1, 0], [2, 0]]))));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn a_packed_header_must_match_its_data() {
    let packed =
        Packed { element: ElementKind::Int(Width::W8), sequence: Sequence::List, count: u64::MAX, lazy: false };
    assert_eq!(packed.items(&[0; 16]), Err(WireError::BadPacked));
    let packed = Packed { count: 3, ..packed };
    assert_eq!(packed.items(&[0; 16]), Err(WireError::Truncated { needed: 24, left: 16 }));
}

#[test]
fn rows_never_announce_more_than_there_is() {
    let good = Rows {
        element: ElementKind::BYTE,
        row: RowKind::Items(Sequence::List),
        sequence: Sequence::List,
        length: LengthWidth::Uniform,
        rows: 2,
        elements: 6,
        lazy: true,
    };
    let read = |rows: Rows, data: &[u8]| {
        let body = [&[0x11][..], &rows.to_bytes(), data].concat();
        let mut reader = Reader::new(&body, NO_BLOCKS);
        reader.token().map(|_| ())
    };
    assert_eq!(read(good, &[0; 6]), Ok(()));
    // Nothing but the header would say how many empty rows there are.
    assert_eq!(read(Rows { rows: u64::MAX, elements: 0, ..good }, &[]), Err(WireError::BadPacked));
    assert_eq!(read(Rows { rows: 0, elements: 0, ..good }, &[]), Err(WireError::BadPacked));
    assert_eq!(read(Rows { rows: 4, ..good }, &[0; 6]), Err(WireError::BadPacked));
    let column = Rows { length: LengthWidth::W4, rows: u64::MAX / 2, ..good };
    assert_eq!(read(column, &[0; 6]), Err(WireError::BadPacked));
    let column = Rows { length: LengthWidth::W2, rows: 1 << 40, ..good };
    assert!(matches!(read(column, &[0; 6]), Err(WireError::Truncated { .. })));
    let text = Rows { row: RowKind::Str, element: ElementKind::Flag, ..good };
    assert_eq!(read(text, &[0; 6]), Err(WireError::BadPacked));
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |depth: u32| {
        let mut body = [9u8, 1, 0].repeat(depth as usize);
        body.push(0);
        consume(Kind::Value.tag(), &body, NO_BLOCKS)
    };
    assert_eq!(nested(MAX_DEPTH), Ok(()));
    assert_eq!(nested(MAX_DEPTH + 1), Err(WireError::TooDeep));
}

#[test]
fn a_spilled_body_needs_its_block() {
    let outside = Err(WireError::OutsideBlocks { block: 0, end: 5 });
    let tag = Kind::Raw.tag() | SPILLED;
    assert_eq!(Body::find(tag, &spilled_payload(5), NO_BLOCKS).map(|b| b.bytes.len()), outside);
    assert_eq!(Body::find(tag, &spilled_payload(5), [vec![0; 4]].as_slice()).map(|b| b.bytes.len()), outside);
    assert_eq!(Body::find(tag, &spilled_payload(5), [vec![0; 9]].as_slice()).map(|b| b.bytes.len()), Ok(5));
}

/// The corpus of the fuzzer as plain tests: what once broke a reader must not break it again.
#[test]
fn the_fuzz_corpus_is_read_to_its_end() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/wire_decode");
    let mut seen = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is part of the repository") {
        #[expect(clippy::disallowed_methods, reason = "a test reads its corpus; the crate itself does no I/O")]
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let Some((tag, payload)) = bytes.split_first_chunk::<2>() else { continue };
        let half = payload.len() / 2;
        let _ = consume(u16::from_le_bytes(*tag), payload, &[payload[half..].to_vec()]);
        seen += 1;
    }
    assert!(seen > 0, "empty corpus: {corpus}");
}
