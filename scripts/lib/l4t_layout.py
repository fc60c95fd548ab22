"""Adds a partition to NVIDIA's layout of a disk: the last one, which takes the rest of the disk.

    l4t_layout.py NAME FILE BYTES <LAYOUT >LAYOUT

The text around it stays as it is. NAME is what the partition is called, FILE what is
written to it, in NVIDIA's directory bootloader, BYTES its size where nothing grows it.
"""

import re
import sys
import xml.etree.ElementTree as tree

# Takes what is left, by NVIDIA's documentation of the element.
FILL = "0x808"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
SYSTEMS = ("APP", "APP_b")
LAST = "secondary_gpt"


def main():
    name, file, size = sys.argv[1:]
    text = sys.stdin.read()
    partitions = list(tree.fromstring(text).iter("partition"))
    names = [partition.get("name") for partition in partitions]
    for needed in (*SYSTEMS, LAST):
        if names.count(needed) != 1:
            sys.exit(f"the layout has {names.count(needed)} partitions {needed}, and one is needed")
    if name in names:
        sys.exit(f"the layout has a partition {name} already")
    after = names[names.index(LAST) - 1]
    if after not in SYSTEMS:
        sys.exit(f"{after} is the last partition of the layout, and not one of the two systems")
    fills = [partition.get("name") for partition in partitions if fills_the_rest(partition)]
    if fills:
        sys.exit(f"{fills[0]} takes the rest of the disk already")
    number = max(int(partition.get("id", 0)) for partition in partitions) + 1
    at = re.search(rf"[ \t]*<partition\s[^>]*name=\"{LAST}\"", text).start()
    sys.stdout.write(text[:at] + element(name, number, file, size) + text[at:])


def fills_the_rest(partition):
    attribute = partition.findtext("allocation_attribute", "").strip()
    return attribute.lower() == FILL


def element(name, number, file, size):
    return f"""        <partition name="{name}" id="{number}" type="data">
            <allocation_policy> sequential </allocation_policy>
            <filesystem_type> basic </filesystem_type>
            <size> {size} </size>
            <file_system_attribute> 0 </file_system_attribute>
            <allocation_attribute> {FILL} </allocation_attribute>
            <partition_type_guid> {LINUX} </partition_type_guid>
            <align_boundary> 16384 </align_boundary>
            <percent_reserved> 0 </percent_reserved>
            <filename> {file} </filename>
        </partition>
"""


if __name__ == "__main__":
    main()
