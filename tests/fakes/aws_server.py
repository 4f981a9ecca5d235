"""AWS on loopback: moto's server, which does what KMS and Secrets Manager do to data."""

from __future__ import annotations

from typing import Self

import boto3
from moto.server import ThreadedMotoServer

REGION = "eu-west-1"


class AwsServer:
    """`with AwsServer() as aws:` starts it; all credentials are made up, and it takes any."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.session = boto3.Session(
            aws_access_key_id="not-a-key",
            aws_secret_access_key="not-a-secret",
            region_name=REGION,
        )

    @property
    def url(self) -> str:
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def kms_key(self) -> str:
        """The ARN of a new key."""
        client = self.session.client("kms", endpoint_url=self.url)
        return client.create_key()["KeyMetadata"]["Arn"]

    def alias(self, name: str, arn: str) -> str:
        """A name of a key."""
        client = self.session.client("kms", endpoint_url=self.url)
        client.create_alias(AliasName=f"alias/{name}", TargetKeyId=arn)
        return f"alias/{name}"

    def secret(self, name: str, value: str | bytes) -> str:
        """A new secret; text or bytes."""
        client = self.session.client("secretsmanager", endpoint_url=self.url)
        if isinstance(value, bytes):
            client.create_secret(Name=name, SecretBinary=value)
        else:
            client.create_secret(Name=name, SecretString=value)
        return name

    def renew(self, name: str, value: str, stage: str = "AWSCURRENT") -> None:
        """A new version of a secret; the one before becomes AWSPREVIOUS by itself."""
        client = self.session.client("secretsmanager", endpoint_url=self.url)
        client.put_secret_value(SecretId=name, SecretString=value, VersionStages=[stage])

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
