//! The page: written on the server, refreshed by a few lines of script; works without script too.

/// What is shown in place of the list when Redis cannot be read.
pub struct Page<'a> {
    /// Which Pod wrote the page.
    pub pod: &'a str,
    /// Oldest first, or why there are none.
    pub messages: Result<&'a [String], &'a str>,
}

impl Page<'_> {
    /// The whole document.
    pub fn render(&self) -> String {
        let list = match self.messages {
            Ok([]) => "<li class=\"quiet\">Nothing yet. Be the first to sign.</li>".to_owned(),
            Ok(messages) => messages
                .iter()
                .rev()
                .map(|message| format!("<li>{}</li>", escape(message)))
                .collect(),
            Err(reason) => format!("<li class=\"trouble\">{}</li>", escape(reason)),
        };
        TEMPLATE
            .replace("{{pod}}", &escape(self.pod))
            .replace("{{list}}", &list)
    }
}

/// Makes text safe inside elements and quoted attributes. Braces go too: the template's marks are made of them.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            '{' => safe += "&#123;",
            other => safe.push(other),
        }
    }
    safe
}

const TEMPLATE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_message_comes_first_and_nothing_is_markup() {
        let messages = ["old".to_owned(), "<b>{{pod}}</b>".to_owned()];
        let html = Page {
            pod: "frontend-1",
            messages: Ok(&messages),
        }
        .render();
        assert!(
            html.contains("<li>&lt;b&gt;&#123;&#123;pod}}&lt;/b&gt;</li><li>old</li>"),
            "{html}"
        );
        assert!(html.contains("Guestbook") && html.contains("frontend-1"));
        assert!(!html.contains("{{"), "a mark is left: {html}");
    }

    #[test]
    fn trouble_is_told_in_place_of_the_list() {
        let html = Page {
            pod: "x",
            messages: Err("redis-slave: no such host"),
        }
        .render();
        assert!(
            html.contains("<li class=\"trouble\">redis-slave: no such host</li>"),
            "{html}"
        );
    }
}
