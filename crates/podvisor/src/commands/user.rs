//! `podvisor user create|set-password|delete|list`: people who can sign in with a local password.
//!
//! A person is a `User` object; the argon2id hash of the password lies in a Secret that only administrators read.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::with_client;

/// What can be done with people.
#[derive(Subcommand)]
pub enum Command {
    /// Create a person with a password.
    #[command(after_help = "Examples:
  podvisor user create alice@podvisor.local --password-file ./alice
  echo secret | podvisor user create alice@podvisor.local --display-name 'Alice Liddell'")]
    Create {
        /// The person, as NAME@DOMAIN.
        name: String,
        /// The name to show.
        #[arg(long)]
        display_name: Option<String>,
        #[command(flatten)]
        password: Password,
    },
    /// Give a person a new password.
    #[command(after_help = "Examples:
  podvisor user set-password alice@podvisor.local")]
    SetPassword {
        /// The person, as NAME@DOMAIN.
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// Remove a person and the password.
    #[command(after_help = "Examples:
  podvisor user delete alice@podvisor.local")]
    Delete {
        /// The person, as NAME@DOMAIN.
        name: String,
    },
    /// List the people who can sign in.
    #[command(after_help = "Examples:
  podvisor user list")]
    List,
}

/// Where a password comes from: a file, standard input, or a prompt on a terminal.
#[derive(clap::Args)]
pub struct Password {
    /// Read the password from this file.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Password {
    fn read(&self) -> Result<String> {
        let text = if let Some(path) = &self.password_file {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
        } else if std::io::stdin().is_terminal() {
            let first = rpassword::prompt_password("Password: ")?;
            if first != rpassword::prompt_password("Again: ")? {
                bail!("the two passwords differ");
            }
            first
        } else {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        };
        let password = text.trim_end_matches(['\r', '\n']).to_owned();
        if password.is_empty() {
            bail!("the password is empty: give --password-file FILE, or write it to standard input");
        }
        Ok(password)
    }
}

/// Runs the subcommand with the caller's kubeconfig.
pub fn run(command: &Command) -> Result<()> {
    with_client(|client| async move {
        let directory = identity::directory::ApiDirectory::new(client);
        match command {
            Command::Create {
                name,
                display_name,
                password,
            } => {
                directory
                    .create_user(name, display_name.as_deref(), &password.read()?)
                    .await?;
                println!("{name} can sign in");
            }
            Command::SetPassword { name, password } => {
                directory.set_password(name, &password.read()?).await?;
                println!("the password of {name} is set");
            }
            Command::Delete { name } => {
                directory.delete_user(name).await?;
                println!("{name} cannot sign in any more");
            }
            Command::List => {
                for user in directory.list_users().await? {
                    println!("{:<40} {}", user.name, user.display_name.unwrap_or_default());
                }
            }
        }
        Ok(())
    })
}
