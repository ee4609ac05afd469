from typing import Any

from django.db import migrations

SEEN = (
    ("budget", "view_budget", "Can view budget"), ("price", "view_price", "Can view price"),
    ("ledgerentry", "view_ledgerentry", "Can view ledger entry"),
)


def let_groups_in(apps: Any, schema_editor: Any) -> None:
    """For an installation that has the groups already; a new one gets the permissions with them."""
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for group in Group.objects.filter(name__in=("Operators", "Viewers")):
        for model, codename, name in SEEN:
            about, _ = ContentType.objects.get_or_create(app_label="llm", model=model)
            permission, _ = Permission.objects.get_or_create(
                codename=codename, content_type=about, defaults={"name": name}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("llm", "0003_money_is_kept"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(let_groups_in, migrations.RunPython.noop)]
