//! Conversion between the versions of resources that are served in more than one: Events and autoscalers.
//!
//! Both directions keep everything that both versions can say, as upstream's conversion functions do.

use crate::registry::{Served, api_version};
use crate::server::ApiServer;
use kinds::KindInfo;
use kinds::status::Status;
use serde_json::{Map, Value, json};

/// Converts an object; `from` and `to` are versions of one built-in resource.
pub fn convert(object: Value, from: &KindInfo, to: &KindInfo) -> Result<Value, Status> {
    let converted = match (from.group, from.version, to.group, to.version) {
        ("", "v1", "events.k8s.io", "v1") => rename(object, &EVENT_FIELDS, false),
        ("events.k8s.io", "v1", "", "v1") => rename(object, &EVENT_FIELDS, true),
        ("autoscaling", "v1", "autoscaling", "v2") => machinery::autoscaler_to_v2(object),
        ("autoscaling", "v2", "autoscaling", "v1") => machinery::autoscaler_to_v1(object),
        _ => {
            return Err(Status::internal(format!(
                "no conversion from {} to {} of {}",
                api_version(from),
                api_version(to),
                to.kind
            )));
        }
    };
    let mut converted = converted;
    converted["apiVersion"] = json!(api_version(to));
    converted["kind"] = json!(to.kind);
    machinery::write_form(to, &mut converted);
    Ok(converted)
}

impl ApiServer {
    /// Converts an object of a resource from one of its versions to another.
    pub async fn convert(
        &self,
        served: &Served,
        object: Value,
        from: &KindInfo,
        to: &KindInfo,
    ) -> Result<Value, Status> {
        let mut converted = self.convert_all(served, vec![object], from, to).await?;
        converted
            .pop()
            .ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// Converts objects of a resource from one of its versions to another. Custom objects tell their version themselves:
    /// some may have been stored when their definition stored another one.
    pub async fn convert_all(
        &self,
        served: &Served,
        objects: Vec<Value>,
        from: &KindInfo,
        to: &KindInfo,
    ) -> Result<Vec<Value>, Status> {
        let alike = (from.group, from.version) == (to.group, to.version);
        let stays = match &served.custom {
            Some(custom) if custom.is_mixed() => objects.iter().all(|object| is_of(object, &api_version(to))),
            _ => alike,
        };
        if stays || objects.is_empty() {
            let custom = served.custom.as_ref().filter(|c| c.has_defaults());
            let Some(custom) = custom.filter(|_| to.version == served.kind.version) else {
                return Ok(objects);
            };
            let mut objects = objects;
            objects.iter_mut().for_each(|object| custom.complete(object));
            return Ok(objects);
        }
        match &served.custom {
            None => objects
                .into_iter()
                .map(|object| convert(object, from, to))
                .collect(),
            Some(custom) => {
                let is_read = to.version == served.kind.version;
                let mut objects = objects;
                if is_read {
                    // Defaults are those of the version that is stored. In a mixed list some are of this one already.
                    for object in &mut objects {
                        match is_of(object, &api_version(to)) {
                            true => custom.complete(object),
                            false => custom.complete_other(object),
                        }
                    }
                }
                let mut converted = custom.conversion().convert(self, objects, to).await?;
                // What the version does not know goes.
                converted.iter_mut().for_each(|object| match is_read {
                    true => custom.adopt(object),
                    false => custom.adopt_stored(object),
                });
                Ok(converted)
            }
        }
    }
}

/// Whether an object is of a version already.
pub fn is_of(object: &Value, api_version: &str) -> bool {
    object["apiVersion"]
        .as_str()
        .is_none_or(|version| version == api_version)
}

/// Names of Event fields: in core/v1, in events.k8s.io/v1.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename(object: Value, names: &[(&str, &str)], back: bool) -> Value {
    let Value::Object(fields) = object else {
        return object;
    };
    let renamed: Map<String, Value> = fields
        .into_iter()
        .map(|(key, value)| {
            let other = names.iter().find_map(|(a, b)| {
                let (from, to) = if back { (b, a) } else { (a, b) };
                (*from == key).then(|| to.to_string())
            });
            (other.unwrap_or(key), value)
        })
        .collect();
    Value::Object(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_change_their_words() {
        let core = json!({"involvedObject": {"name": "p"}, "message": "m", "reason": "r", "count": 2});
        let events = rename(core.clone(), &EVENT_FIELDS, false);
        assert_eq!(
            events,
            json!({"regarding": {"name": "p"}, "note": "m", "reason": "r", "deprecatedCount": 2})
        );
        assert_eq!(rename(events, &EVENT_FIELDS, true), core);
    }
}
