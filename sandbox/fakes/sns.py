"""Amazon SNS as its subscriber meets it: signed envelopes, and a certificate to be fetched from SNS' own host.

This SNS has a topic, a root, a certificate and a host of its own, on loopback. A receiver who is told to trust that root and that
host checks all that it would check of Amazon's. Source: "Verifying the signatures of Amazon SNS messages", docs.aws.amazon.com/sns
(read 2026-11). Nothing here knows the product's verification.
"""

import atexit
import base64
import shutil
import tempfile
from functools import cached_property
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sandbox.fakes.callbacks import Post
from sandbox.fakes.certificates import HOST, CertificateHost, Root

TOPIC_ARN = "arn:aws:sns:eu-west-1:123456789012:ses-events"
_SUBSCRIPTION_ARN = f"{TOPIC_ARN}:2bcfbf39-05c3-41de-beaa-fcfcc21c8f55"
_PATH = "/SimpleNotificationService-5f1e0d2c3b4a.pem"


class Sns:
    """One topic. Files go into `folder`; without one, into a folder of their own that is gone with the process."""

    def __init__(self, folder: Path | None = None):
        self._root = Root("Sandbox SNS Root")
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._folder = folder or Path(tempfile.mkdtemp(prefix="email-worker-sns-"))
        if folder is None:
            atexit.register(shutil.rmtree, self._folder, True)

    def settings(self) -> dict[str, str]:
        """Whom to believe, as the product's settings say it."""
        root_file = self._folder / "sns-root.pem"
        root_file.write_bytes(self._root.pem)
        return {"AWS_SES_WEBHOOK_TOPIC_ARN": TOPIC_ARN, "AWS_SNS_CERT_HOST": HOST, "AWS_SNS_TRUST_ROOT": str(root_file)}

    def notification(self, message_id: str, subject: str, message: str, timestamp: str) -> Post:
        """One POST to the subscriber; `timestamp` is ISO 8601 in UTC with milliseconds."""
        signed = {
            "Message": message,
            "MessageId": message_id,
            "Subject": subject,
            "Timestamp": timestamp,
            "TopicArn": TOPIC_ARN,
            "Type": "Notification",
        }
        text = "".join(f"{name}\n{value}\n" for name, value in signed.items())
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA1())  # version 1, a topic's default
        envelope = signed | {
            "SignatureVersion": "1",
            "Signature": base64.b64encode(signature).decode(),
            "SigningCertURL": self._host.url,
            "UnsubscribeURL": f"https://{HOST}/?Action=Unsubscribe&SubscriptionArn={_SUBSCRIPTION_ARN}",
        }
        headers = {
            "Content-Type": ["text/plain; charset=UTF-8"],
            "User-Agent": ["Amazon Simple Notification Service Agent"],
            "x-amz-sns-message-type": ["Notification"],
            "x-amz-sns-message-id": [message_id],
            "x-amz-sns-topic-arn": [TOPIC_ARN],
            "x-amz-sns-subscription-arn": [_SUBSCRIPTION_ARN],
        }
        return Post(headers, orjson.dumps(envelope))

    @cached_property
    def _host(self) -> CertificateHost:
        """Serves from the first notification on, as long as the process lives: its receiver may read it later."""
        return CertificateHost(self._root, self._folder, _PATH, self._root.issue(self._key, [x509.DNSName("sns.amazonaws.com")]))
