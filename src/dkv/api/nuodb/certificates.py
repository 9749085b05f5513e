"""API: /api/1/peers/certificates, the certificates an operator trusts: stored for the day managers speak TLS."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from dkv.api.context import Context, Manager
from dkv.api.dependencies import Key
from dkv.api.nuodb import schemas, x509
from dkv.api.nuodb.records import must, rewrite
from dkv.api.nuodb.registry_bodies import CertificateBody
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.domain import records
from dkv.domain.model import State
from dkv.domain.orders import PutRecord

KIND = "certificate"

router = Router(prefix="/peers/certificates")


@router.get("")
async def get_certificates(context: Context) -> schemas.Certificates:
    """What is trusted. Servers and processes have no certificates of their own yet, and show none."""
    state = context.state
    trusted = {alias: records.value_of(state, KIND, alias) for alias in records.keys_of(state, KIND)}
    return {
        "trustedCertificates": trusted,
        "serverCertificates": {},
        "processCertificates": {},
        "serverTrusted": [],
        "processTrusted": [],
    }


@router.post("")
async def change_certificates(
    body: CertificateBody,
    manager: Manager,
    key: Key,
    remove: bool = False,
    waitFullyReplicatedSec: Annotated[float, Query(ge=0)] = 0,
) -> schemas.Nothing:
    """Trust a certificate, or no longer; one that was not trusted is no longer trusted at once. Nobody waits: all
    managers read one state."""
    new = None if remove else _record(body)

    def change(state: State, old: Any) -> Any:
        if new is not None and old not in (None, new):
            raise refuse("record_exists", f"Another certificate is trusted as {body.alias}.", "Remove it first.")
        return new

    must(records.unfit_name("Alias", body.alias))
    await rewrite(manager, PutRecord(kind=KIND, key=body.alias), change, key)
    return {}


def _record(body: CertificateBody) -> dict[str, str]:
    pem = body.certificate_pem or ""
    try:
        certificate = x509.read(pem)
    except x509.NoCertificate as error:
        message = f"What is to be trusted as {body.alias[:60]} is not a certificate: {error}."
        raise refuse("bad_value", message, "Send one in PEM, from -----BEGIN CERTIFICATE----- on.") from error
    return {
        "certificatePem": pem,
        "expires": certificate.expires,
        "subjectName": certificate.subject,
        "issuerName": certificate.issuer,
    }
