//! Names and commands for AWS IoT Core, filled in from an endpoint: region, resource, certificate.
//!
//! Pure; the main thread uses it.

use mqtt_connection_sharing::options::Options;

/// Stands for the number of the account, which no endpoint tells.
pub(super) const ACCOUNT: &str = "ACCOUNT";

/// The command that tells it.
pub(super) const TELLS_ACCOUNT: &str = "aws sts get-caller-identity --query Account --output text";

/// An endpoint of AWS IoT Core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aws {
    pub(super) region: String,
}

impl Aws {
    /// The endpoint of these options; `None` for another broker.
    pub(super) fn of(options: &Options) -> Option<Aws> {
        let host = options.aws_host()?.to_ascii_lowercase();
        // NAME-ats.iot.REGION.amazonaws.com
        let mut labels = host.split('.').skip_while(|label| *label != "iot").skip(1);
        Some(Aws {
            region: labels.next().unwrap_or("REGION").to_owned(),
        })
    }

    /// The name of a resource: `client`, `topic`, `topicfilter`, `cert`.
    pub(super) fn arn(&self, kind: &str, name: &str) -> String {
        let Aws { region } = self;
        let partition = match region.as_str() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:iot:{region}:{ACCOUNT}:{kind}/{name}")
    }

    /// A command of `aws iot` for this region.
    pub(super) fn command(&self, rest: &str) -> String {
        format!("aws iot {rest} --region {}", self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_and_partition_come_from_the_endpoint() {
        for (host, arn) in [
            (
                "abc123-ats.iot.eu-central-1.amazonaws.com",
                "arn:aws:iot:eu-central-1:ACCOUNT:client/me",
            ),
            (
                "ABC-ATS.IoT.US-EAST-1.amazonaws.com",
                "arn:aws:iot:us-east-1:ACCOUNT:client/me",
            ),
            (
                "abc.ats.iot.cn-north-1.amazonaws.com.cn",
                "arn:aws-cn:iot:cn-north-1:ACCOUNT:client/me",
            ),
            (
                "abc-ats.iot.us-gov-west-1.amazonaws.com",
                "arn:aws-us-gov:iot:us-gov-west-1:ACCOUNT:client/me",
            ),
        ] {
            let aws = Aws::of(&Options::new(host, "me"));
            let aws = aws.unwrap_or_else(|| panic!("{host}"));
            assert_eq!(aws.arn("client", "me"), arn);
        }
        assert_eq!(Aws::of(&Options::new("broker.example", "me")), None);
    }
}
