from django.db import migrations

from shop.roles import ROLES, make_roles


def forwards(apps, schema_editor):
    make_roles(apps)


def backwards(apps, schema_editor):
    apps.get_model("auth", "Group").objects.filter(name__in=ROLES).delete()


class Migration(migrations.Migration):

    dependencies = [
        ("shop", "0001_accounts_and_confirmations"),
        ("inventory", "0007_desk_permissions"),
        ("loadtests", "0003_comparisons"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [migrations.RunPython(forwards, backwards)]
