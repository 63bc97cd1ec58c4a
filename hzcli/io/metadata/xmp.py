"""XMP packets: read, corrected, given a history entry, written; the XML is ElementTree's.

ISO 16684-1 (XMP part 1) for the serialisation, part 2 for the schemas; IPTC Photo Metadata
Standard for Iptc4xmpExt. A property is (namespace, name); it may stand as an element or as an
attribute of any rdf:Description, and both are understood.
"""

from __future__ import annotations

import io
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from xml.etree import ElementTree

from hzcli.core.window import Size

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
META = "adobe:ns:meta/"
XMP = "http://ns.adobe.com/xap/1.0/"
MM = "http://ns.adobe.com/xap/1.0/mm/"
EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
NOTE = "http://ns.adobe.com/xmp/note/"
DC = "http://purl.org/dc/elements/1.1/"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
EXIF_EX = "http://cipa.jp/exif/1.0/"
AUX = "http://ns.adobe.com/exif/1.0/aux/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
CORE = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
_PEOPLE = "http://ns.microsoft.com/photo/1.2/"
_DRONE = "http://www.dji.com/drone-dji/1.0/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_CONTAINER = "http://ns.google.com/photos/1.0/container/"
_GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
_XML = "http://www.w3.org/XML/1998/namespace"

_PREFIXES = {
    "x": META,
    "rdf": RDF,
    "xmp": XMP,
    "xmpMM": MM,
    "stEvt": EVENT,
    "dc": DC,
    "tiff": TIFF,
    "exif": EXIF,
    "exifEX": EXIF_EX,
    "aux": AUX,
    "photoshop": PHOTOSHOP,
    "Iptc4xmpCore": CORE,
    "Iptc4xmpExt": EXTENSION,
}
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

# Of the old file: thumbnails, the pointer to an extended packet, a film or a gain map appended.
_STALE = {(XMP, "Thumbnails"), (NOTE, "HasExtendedXMP")}
_STALE_SPACES = (_CONTAINER, _GAIN_MAP)
_STALE_NAME = re.compile(r"^(MotionPhoto|MicroVideo)")
_PERSONAL = {(_REGIONS, "Regions"), (_PEOPLE, "RegionInfo"), (EXIF, "ImageUniqueID")}
_PERSONAL_SPACES = (_DRONE,)
_PERSONAL_NAME = re.compile(r"^gps|SerialNumber$|OwnerName$|^PersonInImage|^ImageEditor$", re.I)

# ElementTree keeps prefixes in one table for the whole process.
_TABLE = threading.Lock()
_LARGEST = 64 << 20


class Packet:
    """One packet; `data` None makes an empty one.

    Raises:
        ValueError: not XMP, or with a document type (entities could grow without end).
    """

    def __init__(self, data: bytes | None = None) -> None:
        self._prefixes: dict[str, str] = {}
        if data is None:
            self._root = ElementTree.Element(f"{{{META}}}xmpmeta")
            ElementTree.SubElement(self._root, f"{{{RDF}}}RDF")
        else:
            self._root = self._parse(data)
        rdf = self._root if self._root.tag == f"{{{RDF}}}RDF" else self._root.find(f"{{{RDF}}}RDF")
        if rdf is None:
            raise ValueError("an XMP packet without rdf:RDF")
        self._rdf = rdf

    def _parse(self, data: bytes) -> ElementTree.Element:
        data = data.strip(b"\0 \r\n\t")
        if len(data) > _LARGEST:
            raise ValueError("an XMP packet of more than 64 MiB")
        if re.search(rb"<!\s*(DOCTYPE|ENTITY)", data.replace(b"\0", b""), re.I):
            raise ValueError("an XMP packet with a document type")
        root = None
        try:
            for event, item in ElementTree.iterparse(io.BytesIO(data), ("start-ns", "start")):
                if event == "start-ns":
                    self._prefixes.setdefault(item[1], item[0])
                elif root is None:
                    root = item
        except (ElementTree.ParseError, LookupError) as error:
            raise ValueError(f"a broken XMP packet: {error}") from error
        if root is None:
            raise ValueError("an empty XMP packet")
        return root

    def tobytes(self) -> bytes:
        """The packet in UTF-8, between its xpacket marks."""
        if self._root.tag == f"{{{META}}}xmpmeta":
            self._root.attrib.pop(f"{{{META}}}xmptk", None)
        with _TABLE:
            names = {**{uri: prefix for uri, prefix in self._prefixes.items() if prefix}}
            names |= {uri: prefix for prefix, uri in _PREFIXES.items()}
            for uri, prefix in names.items():
                # Those of ElementTree's own pattern (ns0) it gives itself.
                if not re.fullmatch(r"ns\d+", prefix) and uri != _XML:
                    ElementTree.register_namespace(prefix, uri)
            body = ElementTree.tostring(self._root, encoding="unicode")
        head = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        return (head + body + '\n<?xpacket end="w"?>').encode()

    def get(self, space: str, name: str) -> str | None:
        """The text of a simple property, or of the first item of a list; None if absent."""
        key = f"{{{space}}}{name}"
        for description in self._rdf:
            if key in description.attrib:
                return description.attrib[key]
            element = description.find(key)
            if element is not None:
                items = [*element.iter(f"{{{RDF}}}li")]
                return (items[0] if items else element).text
        return None

    def has(self, space: str, name: str) -> bool:
        key = f"{{{space}}}{name}"
        return any(key in d.attrib or d.find(key) is not None for d in self._rdf)

    def set(self, space: str, name: str, value: str) -> None:
        """Give a simple property a value, in place of any that it has."""
        self.remove(space, name)
        ElementTree.SubElement(self._description(), f"{{{space}}}{name}").text = clean(value)

    def set_list(self, space: str, name: str, kind: str, values: Iterable[str]) -> None:
        """Give a property a list: `kind` is "Bag", "Seq" or "Alt" (of one language)."""
        self.remove(space, name)
        element = ElementTree.SubElement(self._description(), f"{{{space}}}{name}")
        items = ElementTree.SubElement(element, f"{{{RDF}}}{kind}")
        for value in values:
            item = ElementTree.SubElement(items, f"{{{RDF}}}li")
            item.text = clean(value)
            if kind == "Alt":
                item.set(f"{{{_XML}}}lang", "x-default")

    def set_structure(self, space: str, name: str, fields: Mapping[str, str]) -> None:
        """Give a property a structure, its fields in the same namespace."""
        self.remove(space, name)
        element = ElementTree.SubElement(self._description(), f"{{{space}}}{name}")
        element.set(f"{{{RDF}}}parseType", "Resource")
        for key, value in fields.items():
            ElementTree.SubElement(element, f"{{{space}}}{key}").text = clean(value)

    def remove(self, space: str, name: str) -> None:
        key = f"{{{space}}}{name}"
        for description in self._rdf:
            description.attrib.pop(key, None)
            for element in description.findall(key):
                description.remove(element)

    def append_event(self, event: Mapping[str, str]) -> None:
        """Add an entry to xmpMM:History, after those that are there."""
        key = f"{{{MM}}}History"
        element = next((e for d in self._rdf for e in d.findall(key)), None)
        if element is None:
            element = ElementTree.SubElement(self._description(), key)
        steps = element.find(f"{{{RDF}}}Seq")
        if steps is None:
            steps = ElementTree.SubElement(element, f"{{{RDF}}}Seq")
        item = ElementTree.SubElement(steps, f"{{{RDF}}}li")
        item.set(f"{{{RDF}}}parseType", "Resource")
        for name, value in event.items():
            ElementTree.SubElement(item, f"{{{EVENT}}}{name}").text = clean(value)

    def merge(self, other: Packet) -> None:
        """Take over the properties of `other` that this packet does not have."""
        for description in list(other._rdf):
            target = None
            for element in [*description]:
                space, name = _split(element.tag)
                if not self.has(space, name):
                    target = self._description() if target is None else target
                    target.append(element)
            for key, value in description.attrib.items():
                space, name = _split(key)
                if space not in (RDF, _XML, "") and not self.has(space, name):
                    self.set(space, name, value)
        self._prefixes = {**other._prefixes, **self._prefixes}

    def without_stale(self) -> None:
        """Remove what was true of the old file alone."""
        self._prune(
            lambda space, name: (
                (space, name) in _STALE
                or space in _STALE_SPACES
                or (space == _CAMERA and bool(_STALE_NAME.match(name)))
            )
        )

    def without_personal(self) -> None:
        """Remove positions, serial numbers, owners and persons, at any depth."""
        self._prune(
            lambda space, name: (
                (space, name) in _PERSONAL
                or space in _PERSONAL_SPACES
                or bool(_PERSONAL_NAME.search(name))
            )
        )

    def correct(self, size: Size) -> None:
        """Upright, and of this size, wherever the packet speaks of it."""
        facts = {(TIFF, "Orientation"): "1"}
        facts |= {(TIFF, "ImageWidth"): str(size.width), (TIFF, "ImageLength"): str(size.height)}
        facts |= {(EXIF, "PixelXDimension"): str(size.width)}
        facts |= {(EXIF, "PixelYDimension"): str(size.height)}
        for (space, name), value in facts.items():
            if self.has(space, name):
                self.set(space, name, value)

    def stamp(self, software: str, when: str, parameters: str, *, label_ai: bool) -> None:
        """Say who made the result, when (ISO 8601) and how.

        The identifier of this instance follows from the packet, so that equal runs at equal
        times give equal files.
        """
        self.set(XMP, "CreatorTool", software)
        self.set(XMP, "ModifyDate", when)
        self.set(XMP, "MetadataDate", when)
        name = f"{self.get(MM, 'InstanceID')} {self.get(MM, 'DocumentID')} {when} {parameters}"
        instance = f"xmp.iid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"
        self.set(MM, "InstanceID", instance)
        event = {"action": "harmonised", "instanceID": instance, "when": when}
        event |= {"softwareAgent": software, "parameters": parameters, "changed": "/"}
        self.append_event({key: value for key, value in event.items() if value})
        if label_ai:
            self.set(EXTENSION, "DigitalSourceType", TRAINED)

    def _prune(self, unwanted: Callable[[str, str], bool]) -> None:
        for parent in [self._rdf, *self._rdf.iter()]:
            for key in [key for key in parent.attrib if unwanted(*_split(key))]:
                del parent.attrib[key]
            for child in [child for child in parent if unwanted(*_split(child.tag))]:
                parent.remove(child)

    def _description(self) -> ElementTree.Element:
        key = f"{{{RDF}}}Description"
        found = self._rdf.find(key)
        if found is None:
            found = ElementTree.SubElement(self._rdf, key, {f"{{{RDF}}}about": ""})
        return found


def _split(tag: str) -> tuple[str, str]:
    space, _, name = tag.rpartition("}")
    return space[1:], name


def clean(value: str) -> str:
    """`value` without the characters that XML 1.0 cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", value)
