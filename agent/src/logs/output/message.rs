//! MessagePack, read one token at a time: for answers and for printing.
//!
//! Source: the MessagePack specification, "Formats". Nothing is allocated from
//! a claimed length.

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext(i8, &'a [u8]),
    Array(u32),
    Map(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end inside a value.
    Short,
    /// 0xc1, which the format never uses.
    Garbage,
}

/// Takes the next token off the front.
pub(super) fn token<'a>(bytes: &mut &'a [u8]) -> Result<Token<'a>, Stop> {
    let first = take(bytes, 1)?[0];
    Ok(match first {
        0x00..=0x7f => Token::Uint(first.into()),
        0x80..=0x8f => Token::Map((first & 0x0f).into()),
        0x90..=0x9f => Token::Array((first & 0x0f).into()),
        0xa0..=0xbf => Token::Str(take(bytes, (first & 0x1f).into())?),
        0xc0 => Token::Nil,
        0xc1 => return Err(Stop::Garbage),
        0xc2 | 0xc3 => Token::Bool(first == 0xc3),
        0xc4..=0xc6 => {
            let len = number(bytes, 1 << (first - 0xc4))?;
            Token::Bin(take(bytes, len)?)
        }
        0xc7..=0xc9 => {
            let len = number(bytes, 1 << (first - 0xc7))?;
            let kind = take(bytes, 1)?[0] as i8;
            Token::Ext(kind, take(bytes, len)?)
        }
        0xca => Token::Float(f32::from_bits(number(bytes, 4)? as u32).into()),
        0xcb => Token::Float(f64::from_bits(number(bytes, 8)?)),
        0xcc..=0xcf => Token::Uint(number(bytes, 1 << (first - 0xcc))?),
        0xd0 => Token::Int((number(bytes, 1)? as i8).into()),
        0xd1 => Token::Int((number(bytes, 2)? as i16).into()),
        0xd2 => Token::Int((number(bytes, 4)? as i32).into()),
        0xd3 => Token::Int(number(bytes, 8)? as i64),
        0xd4..=0xd8 => {
            let kind = take(bytes, 1)?[0] as i8;
            Token::Ext(kind, take(bytes, 1 << (first - 0xd4))?)
        }
        0xd9..=0xdb => {
            let len = number(bytes, 1 << (first - 0xd9))?;
            Token::Str(take(bytes, len)?)
        }
        0xdc | 0xdd => Token::Array(number(bytes, 2 << (first - 0xdc))? as u32),
        0xde | 0xdf => Token::Map(number(bytes, 2 << (first - 0xde))? as u32),
        0xe0..=0xff => Token::Int((first as i8).into()),
    })
}

/// Takes a whole value off the front, however deep.
pub(super) fn skip(bytes: &mut &[u8]) -> Result<(), Stop> {
    let mut left = 1u64;
    while left > 0 {
        left -= 1;
        left += match token(bytes)? {
            Token::Array(n) => n.into(),
            Token::Map(n) => 2 * u64::from(n),
            _ => 0,
        };
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8], Stop> {
    let len = usize::try_from(len).map_err(|_| Stop::Short)?;
    let (head, rest) = bytes.split_at_checked(len).ok_or(Stop::Short)?;
    *bytes = rest;
    Ok(head)
}

fn number(bytes: &mut &[u8], len: u64) -> Result<u64, Stop> {
    let digits = take(bytes, len)?;
    Ok(digits
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte)))
}
