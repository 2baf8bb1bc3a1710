//! Options of `pods/log`, which are understood and judged before the Pod is looked for. Sources: `ValidatePodLogOptions` in
//! `pkg/apis/core/validation/validation.go` and `pkg/registry/core/pod/rest/log.go` of Kubernetes v1.35. The choice of a
//! stream (`PodLogsQuerySplitStreams`) is of a feature that is off.

use crate::request::parameter;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use serde_json::Value;

const ABOVE_ZERO: &str = "must be greater than 0";

fn integer(text: &str) -> Result<i64, Status> {
    let wrong = |_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    text.parse().map_err(wrong)
}

/// Checks the options that a query gives for the logs of the Pod of a name.
pub(super) fn check(query: &str, name: &str) -> Result<(), Status> {
    let text = |name: &str| parameter(query, name);
    let number = |name: &str| text(name).as_deref().map(integer).transpose();
    let (seconds, lines, bytes) = (
        number("sinceSeconds")?,
        number("tailLines")?,
        number("limitBytes")?,
    );
    if let Some(time) = text("sinceTime")
        && time.parse::<jiff::Timestamp>().is_err()
    {
        return Err(Status::bad_request(format!(
            "parsing time {time:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {time:?} as \"2006\""
        )));
    }
    let mut errors = Vec::new();
    let mut least = |name: &str, number: Option<i64>, least: i64, words: &str| {
        if let Some(number) = number.filter(|number| *number < least) {
            errors.push(FieldError::invalid(&Path::new(name), Value::from(number), words));
        }
    };
    least("tailLines", lines, 0, "must be greater than or equal to 0");
    least("limitBytes", bytes, 1, ABOVE_ZERO);
    if text("sinceTime").is_none() {
        least("sinceSeconds", seconds, 1, ABOVE_ZERO);
    } else if seconds.is_some() {
        let words = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::root().key(""), words));
    }
    if text("stream").is_some() {
        errors.push(FieldError::forbidden(
            &Path::new("stream"),
            "may not be specified",
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("PodLogOptions", "", name, errors))
}
