//! Reading records by the names of their members, and in no other way.
//!
//! A reader that serde derives takes a list for a record, its members by position, and a table for a bare word. What comes
//! from outside is one kind of value and no other, so all of it is read as a [`Record`]: whatever the derived readers
//! inside it, at any depth, none is ever shown a list. For formats that describe themselves: JSON and TOML.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor, value::MapAccessDeserializer,
    },
};

/// A `T` of which every record, at any depth, was read by name.
///
/// ```
/// use plimsoll_core::record::{self, Record};
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Place {
///     host: String,
/// }
///
/// let Record(place) = toml::from_str::<Record<Place>>(r#"host = "r.io""#)?;
/// assert_eq!(place.host, "r.io");
/// assert!(record::json::<Place>(br#"{"host": "r.io"}"#).is_ok());
/// assert!(record::json::<Place>(br#"["r.io"]"#).is_err());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Record<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        by_name(deserializer).map(Self)
    }
}

/// Reads a `T` in `bytes`, which are one JSON document, as [`Record`] does.
///
/// # Errors
/// Where it is not JSON, or of another shape.
pub fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).map(|Record(value)| value)
}

/// Reads a `T` in `text`, which is TOML, as [`Record`] does.
///
/// # Errors
/// Where it is not TOML, or of another shape.
pub fn toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, toml::de::Error> {
    toml::from_str(text).map(|Record(value)| value)
}

/// Reads a `T` as [`Record`] does: for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Those of `deserializer`; one for each list where a record, and each table where a bare word, is wanted.
pub fn by_name<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(ByName(deserializer))
}

/// A reader, or a part of one, that passes itself on to everything inside.
struct ByName<T>(T);

/// What a record wants to see.
struct Shown<V> {
    visitor: V,
    is_record: bool,
}

fn shown<V>(visitor: V) -> Shown<V> {
    Shown { visitor, is_record: false }
}

fn record<V>(visitor: V) -> Shown<V> {
    Shown { visitor, is_record: true }
}

macro_rules! passed_on {
    ($($method:ident($($argument:ident: $kind:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* shown(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ByName<D> {
    type Error = D::Error;

    passed_on! {
        deserialize_any()
        deserialize_bool()
        deserialize_i8()
        deserialize_i16()
        deserialize_i32()
        deserialize_i64()
        deserialize_i128()
        deserialize_u8()
        deserialize_u16()
        deserialize_u32()
        deserialize_u64()
        deserialize_u128()
        deserialize_f32()
        deserialize_f64()
        deserialize_char()
        deserialize_str()
        deserialize_string()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_option()
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map()
        deserialize_identifier()
        deserialize_ignored_any()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, record(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        // As it is written, since only that tells a bare word from a table with one member.
        self.0.deserialize_any(Choice(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! seen {
    ($($method:ident($kind:ty))*) => {
        $(fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.visitor.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Shown<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    seen! {
        visit_bool(bool)
        visit_i8(i8)
        visit_i16(i16)
        visit_i32(i32)
        visit_i64(i64)
        visit_i128(i128)
        visit_u8(u8)
        visit_u16(u16)
        visit_u32(u32)
        visit_u64(u64)
        visit_u128(u128)
        visit_f32(f32)
        visit_f64(f64)
        visit_char(char)
        visit_str(&str)
        visit_borrowed_str(&'de str)
        visit_string(String)
        visit_bytes(&[u8])
        visit_borrowed_bytes(&'de [u8])
        visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(ByName(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(ByName(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        if self.is_record {
            return Err(A::Error::invalid_type(Unexpected::Seq, &"members by name"));
        }
        self.visitor.visit_seq(ByName(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(ByName(members))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, choice: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(ByName(choice))
    }
}

/// One of several: a bare word, or one member by its name.
struct Choice<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Choice<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        self.0.visit_enum(word.into_deserializer())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(ByName(MapAccessDeserializer::new(members)))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for ByName<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(ByName(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(ByName(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ByName<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(ByName(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for ByName<A> {
    type Error = A::Error;
    type Variant = ByName<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (name, value) = self.0.variant_seed(seed)?;
        Ok((name, ByName(value)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for ByName<A> {
    type Error = A::Error;

    /// A member by its name where a bare word is wanted.
    fn unit_variant(self) -> Result<(), A::Error> {
        Err(A::Error::invalid_type(Unexpected::Map, &"a bare word"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(ByName(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, shown(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, record(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json, value::RawValue};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        a: u64,
        #[serde(default)]
        b: Option<String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Either {
        Word,
        Inner(Inner),
        Named { inner: Inner },
    }

    #[derive(Debug, Deserialize)]
    struct Outer {
        one: Inner,
        #[serde(default)]
        maybe: Option<Inner>,
        #[serde(default)]
        many: Vec<Inner>,
        #[serde(default)]
        named: BTreeMap<String, Inner>,
        either: Either,
        #[serde(default)]
        raw: Option<Box<RawValue>>,
        #[serde(default)]
        pair: Option<(Inner, u8)>,
    }

    fn good() -> Value {
        let inner = || json!({"a": 1, "b": "x"});
        json!({
            "one": inner(), "maybe": inner(), "many": [inner(), inner()], "named": {"x": inner()},
            "either": {"named": {"inner": inner()}}, "raw": [1, {"z": 2}], "pair": [inner(), 7]
        })
    }

    /// Every object, by its path; `named` and the raw one hold whatever they hold.
    fn records(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.push(path.to_owned());
                members.iter().for_each(|(name, member)| records(member, &format!("{path}/{name}"), found));
            }
            Value::Array(items) => {
                (0..)
                    .zip(items)
                    .for_each(|(at, item): (usize, _)| records(item, &format!("{path}/{at}"), found));
            }
            _ => {}
        }
    }

    #[test]
    fn a_list_is_never_a_record_at_any_depth() {
        let read = |value: &Value| serde_json::from_str::<Record<Outer>>(&value.to_string());
        let Record(outer) = read(&good()).unwrap();
        let inner = || Inner { a: 1, b: Some("x".to_owned()) };
        assert_eq!((outer.one, outer.maybe, outer.many.len()), (inner(), Some(inner()), 2));
        assert_eq!((&outer.named["x"], outer.either), (&inner(), Either::Named { inner: inner() }));
        assert_eq!(outer.raw.unwrap().get(), r#"[1,{"z":2}]"#);
        assert_eq!(outer.pair, Some((inner(), 7)));
        let mut paths = Vec::new();
        records(&good(), "", &mut paths);
        paths.retain(|path| !path.starts_with("/raw"));
        assert_eq!(paths.len(), 11, "{paths:?}");
        for path in paths {
            let mut wrapped = good();
            let place = wrapped.pointer_mut(&path).unwrap();
            let members = place.as_object().unwrap().values().cloned().collect();
            *place = Value::Array(members);
            assert!(read(&wrapped).is_err(), "{path}: {wrapped}");
        }
    }

    #[test]
    fn a_word_is_a_word_and_a_member_a_member() {
        let read = |text: &str| serde_json::from_str::<Record<Either>>(text).map(|Record(either)| either);
        assert_eq!(read(r#""word""#).unwrap(), Either::Word);
        assert_eq!(read(r#"{"inner": {"a": 1}}"#).unwrap(), Either::Inner(Inner { a: 1, b: None }));
        for text in [
            r#"{"word": null}"#,
            r#"{"word": {}}"#,
            r#""inner""#,
            r#"{"inner": [1]}"#,
            r#"{"named": [{"a": 1}]}"#,
            r#"{"inner": {"a": 1}, "word": null}"#,
            r#"["word"]"#,
            "1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_still_says_where() {
        #[derive(Debug, Deserialize)]
        struct Whole {
            #[expect(dead_code, reason = "only read")]
            one: Inner,
        }
        let error = toml::from_str::<Record<Whole>>("\none = [1]\n").unwrap_err();
        assert_eq!(error.span(), Some(7..10), "{error}");
        assert!(error.message().contains("invalid type: sequence, expected members by name"), "{error}");
        let error = serde_json::from_str::<Record<Whole>>("{\n \"one\": [1]}").unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 9), "{error}");
    }
}
