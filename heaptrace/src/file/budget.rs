//! How much memory a recording may take, and its decoding within that. Contents are hostile: an element of a byte may
//! become a struct of hundreds, so what is decoded is counted element by element, before it is made.

use super::{FREE_MEMORY, MEMORY_PER_BYTE};
use crate::model::PIECE;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, SeqAccess, VariantAccess, Visitor,
};
use std::fmt;

/// serde makes room for so many bytes of a list at once; a longer one grows, and is there twice when it is moved.
const AT_ONCE: usize = 1 << 20;

/// Bytes that a recording takes, held against those that its file has.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Bytes of the file so far: what comes later does not pay for what comes first.
    pub read: u64,
    /// What the profile and the reports of it take.
    pub kept: u64,
}

impl Budget {
    /// What may be taken.
    pub fn limit(&self) -> u64 {
        self.read.saturating_mul(MEMORY_PER_BYTE).saturating_add(FREE_MEMORY)
    }

    /// Whether there is room for `bytes` beside what is kept.
    ///
    /// # Errors
    /// A sentence on what there is no room for.
    pub fn check(&self, what: &str, bytes: u64) -> Result<(), String> {
        if self.kept.saturating_add(bytes) <= self.limit() { Ok(()) } else { Err(self.too_much(what)) }
    }

    /// Decodes all of `content`. Of what is kept, `reported` is for reports, which are made in the end only.
    ///
    /// # Errors
    /// What is wrong with it; that it takes too much memory, too.
    pub fn decode<T: DeserializeOwned>(&self, content: &[u8], reported: u64) -> Result<T, String> {
        let now = self.kept.saturating_sub(reported).saturating_add(content.len() as u64);
        let mut left = Left(Some(self.limit().saturating_sub(now)));
        let mut from = postcard::Deserializer::from_bytes(content);
        let decoded = T::deserialize(Counted { inner: &mut from, left: &mut left, list: None });
        if left.0.is_none() {
            return Err(self.too_much("what it holds"));
        }
        let cannot = |err| format!("cannot be decoded: {err}");
        let value = decoded.map_err(cannot)?;
        match from.finalize().map_err(cannot)? {
            [] => Ok(value),
            rest => Err(format!("{} bytes too many", rest.len())),
        }
    }

    fn too_much(&self, what: &str) -> String {
        format!(
            "{what} would take more memory than a recording may: {MEMORY_PER_BYTE} bytes for each of its first {} \
             and {FREE_MEMORY} more",
            self.read
        )
    }
}

/// Bytes that may still be taken; `None` once more was asked for.
struct Left(Option<u64>);

impl Left {
    fn take<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.0 = self.0.and_then(|left| left.checked_sub(bytes as u64));
        // The text is for nobody: postcard drops it.
        self.0.map(|_| ()).ok_or_else(|| E::custom("too much"))
    }
}

/// A step of deserializing that counts what it makes. Only the kinds of values that recordings are made of get through.
struct Counted<'l, T> {
    inner: T,
    left: &'l mut Left,
    /// Elements of a list have memory of their own, of which so much has been taken; fields of a struct lie in the struct.
    list: Option<usize>,
}

impl<'l, T> Counted<'l, T> {
    fn of<U>(self, wrap: impl FnOnce(T, Counted<'l, ()>) -> U) -> U {
        let Self { inner, left, list } = self;
        wrap(inner, Counted { inner: (), left, list })
    }

    fn with<U>(self, inner: U) -> Counted<'l, U> {
        Counted { inner, left: self.left, list: self.list }
    }
}

macro_rules! pass_on {
    ($($name:ident ( $($argument:ident : $type:ty),* ) $list:expr;)*) => {
        $(fn $name<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.of(|inner, rest| inner.$name($($argument,)* Counted { list: $list, ..rest.with(visitor) }))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Counted<'_, D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any() None;
        deserialize_bool() None;
        deserialize_u8() None;
        deserialize_u16() None;
        deserialize_u32() None;
        deserialize_u64() None;
        deserialize_i64() None;
        deserialize_str() None;
        deserialize_string() None;
        deserialize_option() None;
        deserialize_unit() None;
        deserialize_newtype_struct(name: &'static str) None;
        deserialize_seq() Some(0);
        deserialize_tuple(len: usize) None;
        deserialize_tuple_struct(name: &'static str, len: usize) None;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) None;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) None;
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 f64 char bytes byte_buf unit_struct map identifier ignored_any
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! hand_over {
    ($($name:ident $type:ty;)*) => {
        $(fn $name<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$name(value)
        })*
    };
}

macro_rules! hand_over_text {
    ($($name:ident $type:ty;)*) => {
        $(fn $name<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.left.take(value.len() + PIECE as usize)?;
            self.inner.$name(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Counted<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    hand_over! {
        visit_bool bool;
        visit_u8 u8;
        visit_u16 u16;
        visit_u32 u32;
        visit_u64 u64;
        visit_i64 i64;
    }

    hand_over_text! {
        visit_str &str;
        visit_borrowed_str &'de str;
        visit_string String;
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.of(|inner, rest| inner.visit_some(rest.with(from)))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.of(|inner, rest| inner.visit_newtype_struct(rest.with(from)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        if self.list.is_some() {
            self.left.take(PIECE as usize)?;
        }
        self.of(|inner, rest| inner.visit_seq(rest.with(from)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        self.of(|inner, rest| inner.visit_enum(rest.with(from)))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Counted<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.of(|inner, rest| inner.deserialize(rest.with(from)))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        if let Some(taken) = &mut self.list {
            let size = size_of::<S::Value>();
            *taken += size;
            self.left.take(if *taken > AT_ONCE { 2 * size } else { size })?;
        }
        self.inner.next_element_seed(Counted { inner: seed, left: self.left, list: None })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'l, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Counted<'l, A> {
    type Error = A::Error;
    type Variant = Counted<'l, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner, left, list } = self;
        let (value, variant) = inner.variant_seed(seed)?;
        Ok((value, Counted { inner: variant, left, list }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.of(|inner, rest| inner.newtype_variant_seed(rest.with(seed)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.of(|inner, rest| inner.tuple_variant(len, rest.with(visitor)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.of(|inner, rest| inner.struct_variant(fields, rest.with(visitor)))
    }
}
