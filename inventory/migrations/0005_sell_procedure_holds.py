"""The procedure of `stored_procedure` again: it holds units, and lets go of the limit."""

from importlib import import_module

from django.db import migrations

# The result is one row: what became of it (sold, sold_out, limit_reached), the units
# available afterwards and the stock row's version. Errors undo everything and pass through.
CREATE = """
CREATE PROCEDURE inventory_sell(
    IN p_reference CHAR(36),
    IN p_product BIGINT,
    IN p_buyer VARCHAR(48),
    IN p_key CHAR(36),
    IN p_quantity INT,
    IN p_unit_price DECIMAL(10, 2),
    IN p_strategy VARCHAR(32),
    IN p_attempts INT,
    IN p_limit INT,
    IN p_hold_minutes INT,
    IN p_now DATETIME(6)
)
MODIFIES SQL DATA
SQL SECURITY INVOKER
BEGIN
    DECLARE v_available INT;
    DECLARE v_version BIGINT;
    DECLARE v_bought BIGINT;
    DECLARE v_outcome VARCHAR(16) DEFAULT 'sold_out';
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;
    START TRANSACTION;
    INSERT INTO inventory_order
        (reference, product_id, buyer, `key`, quantity, unit_price, status, strategy, attempts,
         created_at, expires_at)
    VALUES
        (p_reference, p_product, p_buyer, p_key, p_quantity, p_unit_price,
         IF(p_hold_minutes IS NULL, 'confirmed', 'held'), p_strategy, p_attempts, p_now,
         UTC_TIMESTAMP(6) + INTERVAL p_hold_minutes MINUTE);
    UPDATE inventory_stock SET available = available - p_quantity, version = version + 1
    WHERE product_id = p_product AND available >= p_quantity;
    IF ROW_COUNT() = 1 THEN
        SET v_outcome = 'sold';
    END IF;
    SELECT available, version INTO v_available, v_version
    FROM inventory_stock WHERE product_id = p_product;
    IF v_outcome = 'sold' AND p_limit IS NOT NULL THEN
        SELECT SUM(quantity) INTO v_bought FROM inventory_order -- in an IF it would lock the rows
        WHERE buyer = p_buyer AND product_id = p_product
        AND status NOT IN ('cancelled', 'expired');
        IF v_bought > p_limit THEN
            SET v_outcome = 'limit_reached';
        END IF;
    END IF;
    IF v_outcome = 'sold' THEN
        INSERT INTO inventory_movement
            (product_id, version, kind, delta, available_after, order_id, reason, actor, created_at)
        VALUES
            (p_product, v_version, 'sale', -p_quantity, v_available, p_reference, '', p_buyer,
             p_now);
        COMMIT;
    ELSE
        ROLLBACK;
    END IF;
    SELECT v_outcome, v_available, v_version;
END
"""


def create(apps, schema_editor):
    if schema_editor.connection.vendor == "mysql":
        schema_editor.execute("DROP PROCEDURE IF EXISTS inventory_sell")
        schema_editor.execute(CREATE, params=None)


def create_as_it_was(apps, schema_editor):
    import_module("inventory.migrations.0003_sell_procedure").create(apps, schema_editor)


class Migration(migrations.Migration):
    atomic = False  # creating a procedure commits on these servers
    dependencies = [("inventory", "0004_holds_queue_and_pictures")]
    operations = [migrations.RunPython(create, create_as_it_was)]
