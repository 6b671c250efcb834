<?php

class Cart
{
    private array $items = [];

    public function add(Item $item, int $count = 10): bool
    {
        if ($count < 1 || count($this->items) >= 500) {
            throw new RuntimeException('the cart cannot take this item');
        }
        $this->items[] = [$item, $count];
        return true;
    }
}

function total(array $prices, $rounding = 2)
{
    $sum = 0;
    foreach ($prices as $price) {
        if ($price > 0 && is_numeric($price)) {
            $sum += $price;
        }
    }
    return round($sum, $rounding);
}
