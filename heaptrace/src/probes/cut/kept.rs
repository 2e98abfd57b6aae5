//! How a site's parts are written to disk that the kernel's side has types for.

pub mod place {
    use heaptrace_common::probe::Place;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(place.to_bits())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Place, D::Error> {
        Ok(Place::from_bits(u16::deserialize(deserializer)?))
    }
}

pub mod role {
    use heaptrace_common::probe::Role;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*role as u8)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        let number = u8::deserialize(deserializer)?;
        let roles = [Role::Begin, Role::Whole, Role::Result, Role::Free];
        roles.into_iter().find(|role| *role as u8 == number).ok_or_else(|| de::Error::custom("no role"))
    }
}
