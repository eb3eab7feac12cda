//! Reading objects: by member name only, what is unknown kept as it was written.
//!
//! serde's `flatten` reads what it does not know into trees that take up to ninety times the memory of the input, and
//! slows down what stands ten thousand times in a document. Its derived readers take an array for an object, too.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use serde_json::value::RawValue;

/// Members that this version does not know, by name.
pub(crate) type Extra = BTreeMap<String, Json>;

/// A value of any type that nothing here looks into: kept as it was written, so that it costs no more than its text.
#[derive(Debug, Clone)]
pub enum Json {
    /// A string, decoded.
    String(String),
    /// Anything else, as JSON.
    Other(Box<RawValue>),
}

impl Json {
    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Other(_) => None,
        }
    }

    /// The value as `T`, if it is one.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        match self {
            Self::String(text) => {
                T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text)).ok()
            }
            Self::Other(raw) => serde_json::from_str(raw.get()).ok(),
        }
    }
}

/// Equal values are equal however they were written; numbers with fraction or exponent if they were written alike.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        let canonical = |json: &RawValue| super::json::parse(json.get().as_bytes())?.canonical();
        match (self, other) {
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Other(a), Self::Other(b)) => {
                a.get() == b.get() || matches!((canonical(a), canonical(b)), (Ok(a), Ok(b)) if a == b)
            }
            _ => false,
        }
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Self::String(text),
            other => Self::Other(serde_json::value::to_raw_value(&other).expect("a value is always JSON")),
        }
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<i64> for Json {
    fn from(number: i64) -> Self {
        serde_json::Value::from(number).into()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::String(text) => text.serialize(serializer),
            Self::Other(raw) => raw.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('"') {
            return serde_json::from_str(raw.get()).map(Self::String).map_err(D::Error::custom);
        }
        Ok(Self::Other(raw))
    }
}

/// A member's name, borrowed where it holds no escape.
pub(super) struct Name<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// Takes a member that an object has once at most.
pub(super) fn put<T, E: Error>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

/// `object!(Type { field: "name" needed, other: "other" optional, … } extra => Type { … })` reads an object: each member
/// into the variable of its field, `needed` ones as they are, `optional` ones as their default if they are not there,
/// and the others into `extra`; the expression makes the value of them.
macro_rules! object {
    (@needed $field:ident $name:literal) => {
        $field.ok_or_else(|| <A::Error as serde::de::Error>::missing_field($name))?
    };
    (@optional $field:ident $name:literal) => {
        $field.unwrap_or_default()
    };
    ($type:ty { $($field:ident: $name:literal $need:ident),* $(,)? } $extra:ident => $made:expr) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> serde::de::Visitor<'de> for Reader {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$type, A::Error> {
                        use $crate::tuf::object::{Extra, Name, put};
                        $(let mut $field = None;)*
                        let mut $extra = Extra::new();
                        while let Some(Name(name)) = map.next_key()? {
                            match name.as_ref() {
                                $($name => put(&mut $field, $name, map.next_value()?)?,)*
                                _ => drop($extra.insert(name.into_owned(), map.next_value()?)),
                            }
                        }
                        $(let $field = $crate::tuf::object::object!(@$need $field $name);)*
                        Ok($made)
                    }
                }
                deserializer.deserialize_map(Reader)
            }
        }
    };
}

pub(super) use object;
